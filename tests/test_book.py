"""The book: links in its sources, and every page of the built site in a real browser without a network."""

import re
from pathlib import Path

import pytest

from notebooks.tools import book
from notebooks.tools.book import PAGES, build, for_book, missing_tools
from notebooks.tools.sync import NOTEBOOKS

CHAPTERS = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
# What is wrong with a page once MathJax has finished: counted in the page itself.
FAULTS = r"""async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  const edge = document.querySelector("article").getBoundingClientRect().right;
  const rightOf = formula => formula.querySelector("mjx-math").getBoundingClientRect().right;
  const outside = document.querySelector("article").cloneNode(true);
  for (const node of outside.querySelectorAll("pre, code, mjx-container, script, style")) node.remove();
  return {
    unrendered: [...document.querySelectorAll(".math")].filter(m => !m.querySelector("mjx-container")).length,
    errors: document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
    left: (outside.textContent.match(/\$\$|\\\(|\\\[|\\begin\{|\\frac|\$[^$\n]{1,80}\$/g) || []).slice(0, 5),
    images: [...document.images].filter(i => !i.naturalWidth).map(i => i.getAttribute("src")),
    wide: [...document.querySelectorAll("article mjx-container")].filter(m => rightOf(m) > edge + 2)
      .map(m => m.closest("section").id),
    formulas: document.querySelectorAll("mjx-container").length,
  };
}"""


@pytest.mark.parametrize("address", ["https://github.com/someone/course", ""])
def test_links_for_the_book(address, monkeypatch):
    monkeypatch.setattr(book, "repository", lambda: address)
    stays = "[a](../NOTATION.md) ![b](../gifs/a.gif) [e](http://f) [f](#g) `f[x](y)`"
    text = f"{stays} [c](LICENSE) [d](../notebooks/exercises)"
    licence, folder = f"{address}/blob/main/LICENSE", f"{address}/tree/main/notebooks/exercises"
    assert for_book(text) == (f"{stays} [c]({licence}) [d]({folder})" if address else f"{stays} c d")


@pytest.fixture(scope="module")
def site() -> Path:
    if missing := missing_tools():
        pytest.skip(f"not installed (extra `dev`): {', '.join(missing)}")
    return build().parent


def open_page(browser, address: str) -> tuple:
    """A page, and a list that collects its console errors and every request that leaves the disk."""
    page, complaints = browser.new_page(), []
    page.context.set_offline(True)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:200]}"))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(("file:", "data:", "blob:")) else complaints.append(f"network: {r.url}")
        ),
    )
    page.goto(address, wait_until="load", timeout=120_000)
    return page, complaints


def faults_of(browser, path: Path) -> tuple[dict, int]:
    """What is wrong with one page of the site, and how many formulas it shows."""
    page, complaints = open_page(browser, path.as_uri())
    found = page.evaluate(FAULTS) if page.query_selector("article") else {"formulas": 0}
    page.context.close()
    formulas = found.pop("formulas")
    return {
        what: value for what, value in (found | {"complaints": complaints[:20]}).items() if value
    }, formulas


@pytest.mark.slow
def test_every_page_in_a_browser(site: Path, browser):
    results = {path.relative_to(site).as_posix(): faults_of(browser, path) for path in site.rglob("*.html")}
    print(f"{len(results)} pages, {sum(formulas for _, formulas in results.values())} formulas")
    assert len(results) >= len(CHAPTERS) + len(PAGES)
    assert all(results[f"notebooks/{chapter}.html"][1] > 10 for chapter in CHAPTERS)
    assert {page: faults for page, (faults, _) in results.items() if faults} == {}


def test_faults_are_seen(tmp_path: Path, browser):
    page = tmp_path / "page.html"
    page.write_text(
        '<article>$$x$$ <img src="no.png"> <span class="math">y</span> <mjx-merror></mjx-merror>'
        '<section id="s"><mjx-container><mjx-math style="display: block; width: 3000px"></mjx-math>'
        "</mjx-container></section></article>"
        '<script>console.error("oh")</script><script src="https://example.org/a.js"></script>'
    )
    faults, formulas = faults_of(browser, page)
    assert faults.keys() == {"left", "images", "unrendered", "errors", "complaints", "wide"}
    assert (faults["wide"], formulas) == (["s"], 1)
    assert {"oh", "network: https://example.org/a.js"} <= set(faults["complaints"])


@pytest.mark.slow
def test_navigation_and_search(site: Path, browser):
    page, complaints = open_page(browser, (site / "index.html").as_uri())
    sidebar = page.eval_on_selector_all(".sidebar-tree a", "links => links.map(link => link.href)")
    for chapter in CHAPTERS:
        assert any(link.endswith(f"notebooks/{chapter}.html") for link in sidebar)
    for chapter in CHAPTERS:  # through the book by "next"
        page.click(".next-page")
        page.wait_for_load_state("load")
        assert page.url.endswith(f"notebooks/{chapter}.html")
    page.click(".prev-page")
    page.wait_for_url(re.compile(re.escape(CHAPTERS[-2])))
    page.goto((site / "search.html").as_uri() + "?q=Metropolis")
    page.wait_for_selector("#search-results li a", timeout=60_000)
    assert not complaints
    page.context.close()
