"""The book: links in its sources, and every page of the built site in a real browser without a network."""

import inspect
import io
import re
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from notebooks.tools import book
from notebooks.tools.book import (
    LINKS,
    LONG,
    PAGES,
    SLIDERS,
    alternative,
    build,
    for_book,
    is_folded,
    missing_tools,
    notebook_for_book,
    plain,
    texts,
)
from notebooks.tools.dark import dark_figure
from notebooks.tools.sync import NOTEBOOKS
from utils.widgets import explore

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
    sideways: Math.max(0, Math.round(document.querySelector(".content")?.scrollWidth - innerWidth) || 0),
    unsaid: [...document.querySelectorAll(".cell_output img")].filter(i => !/ /.test(i.alt)).length,
    wide: [...document.querySelectorAll("article mjx-container")]
      .filter(m => innerWidth > 500 && rightOf(m) > edge + 2).map(m => m.closest("section").id),
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


def open_page(browser, address: str, width: int = 1280) -> tuple:
    """A page, and a list that collects its console errors and every request that leaves the disk."""
    page, complaints = browser.new_page(viewport={"width": width, "height": 800}), []
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


def faults_of(browser, path: Path, width: int = 1280) -> tuple[dict, int]:
    """What is wrong with one page of the site, and how many formulas it shows."""
    page, complaints = open_page(browser, path.as_uri(), width)
    found = page.evaluate(FAULTS) if page.query_selector("article") else {"formulas": 0}
    page.context.close()
    formulas = found.pop("formulas")
    return {
        what: value for what, value in (found | {"complaints": complaints[:20]}).items() if value
    }, formulas


def test_every_page_in_a_browser(site: Path, browser):
    pages = {path.relative_to(site).as_posix(): path for path in site.rglob("*.html")}
    results = {name: faults_of(browser, path) for name, path in pages.items()}
    print(f"{len(results)} pages, {sum(formulas for _, formulas in results.values())} formulas")
    assert len(results) >= len(CHAPTERS) + len(PAGES)
    assert all(results[f"notebooks/{chapter}.html"][1] > 10 for chapter in CHAPTERS)
    assert {page: faults for page, (faults, _) in results.items() if faults} == {}


WIDEST = ("02", "04", "06")  # with the longest formulas


@pytest.mark.parametrize(
    "chapters", [WIDEST, pytest.param(("",), marks=pytest.mark.long)], ids=["few", "all"]
)
def test_pages_on_a_phone(site: Path, browser, chapters):
    pages = [path for path in site.rglob("*.html") if path.name.startswith(chapters)]
    assert len(pages) >= len(chapters)
    faults = {path.name: faults_of(browser, path, 390)[0] for path in pages}
    assert {name: found for name, found in faults.items() if found} == {}


def test_faults_are_seen(tmp_path: Path, browser):
    page = tmp_path / "page.html"
    page.write_text(
        '<article>$$x$$ <img src="no.png"> <span class="math">y</span> <mjx-merror></mjx-merror>'
        '<section id="s"><mjx-container><mjx-math style="display: block; width: 3000px"></mjx-math>'
        '</mjx-container></section><div class="cell_output"><img src="no.png" alt="a.png"></div></article>'
        '<div class="content" style="width: 2000px"></div>'
        '<script>console.error("oh")</script><script src="https://example.org/a.js"></script>'
    )
    faults, formulas = faults_of(browser, page)
    assert faults.keys() == {
        "left",
        "images",
        "unrendered",
        "errors",
        "complaints",
        "wide",
        "sideways",
        "unsaid",
    }
    assert (faults["wide"], faults["sideways"], faults["unsaid"], formulas) == (["s"], 720, 1, 1)
    assert {"oh", "network: https://example.org/a.js"} <= set(faults["complaints"])


def test_navigation_and_search(site: Path, browser):
    page, complaints = open_page(browser, (site / "index.html").as_uri())
    sidebar = page.eval_on_selector_all(".sidebar-tree a", "links => links.map(link => link.href)")
    for chapter in CHAPTERS:
        assert any(link.endswith(f"notebooks/{chapter}.html") for link in sidebar)
    for chapter, following in pairwise(CHAPTERS):
        html = (site / "notebooks" / f"{chapter}.html").read_text(encoding="utf-8")
        assert re.search(r'class="next-page" href="([^"]*)"', html)[1] == f"{following}.html"
    for chapter in CHAPTERS[:2]:
        page.click(".next-page")
        page.wait_for_url(re.compile(re.escape(f"notebooks/{chapter}.html")))
    page.click(".prev-page")
    page.wait_for_url(re.compile(re.escape(CHAPTERS[0])))
    page.goto((site / "search.html").as_uri() + "?q=Metropolis")
    page.wait_for_selector("#search-results li a", timeout=60_000)
    hit = page.locator("#search-results li", has_text="04 ·").locator(".snippet")
    assert "Metropolis" in hit.locator("mark").first.inner_text()
    every = page.locator("#search-results li")
    assert page.locator("#search-results .snippet").count() == every.count() > 1  # by the stem, or in code
    hit.locator("a").click()
    page.wait_for_url(re.compile("04_.*#."))
    assert "Metropolis" in page.locator("section:target").inner_text()
    assert not complaints
    page.context.close()


def test_copy_button_and_playground(site: Path, browser):
    page, complaints = open_page(browser, (site / "notebooks" / "06_gan_is_an_ebm.html").as_uri())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown = page.locator("div.highlight:visible", has=page.locator("button.copy")).first
    shown.hover()
    shown.locator("button").click()
    page.wait_for_selector("text=Copied")
    assert (
        page.evaluate("navigator.clipboard.readText()").strip() == shown.locator("pre").inner_text().strip()
    )
    links = page.locator("article .playground a")
    assert links.count() == 3 * len(LINKS["06"])  # top, at the sliders' picture, end
    place = page.locator("article iframe.playground")
    place.scroll_into_view_if_needed()
    framed = page.frame_locator("article iframe.playground")
    framed.locator("#play").wait_for(timeout=60_000)
    assert framed.locator("header").is_hidden()
    inside = page.frames[1]
    inside.wait_for_function("planes && planes.chains && planes.chains.transitions > 5", timeout=60_000)
    assert inside.evaluate("[state.logit, document.documentElement.scrollHeight <= innerHeight + 2]") == [
        "exact",
        True,
    ]
    page.evaluate("document.body.dataset.theme = 'dark'")
    inside.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    inside.wait_for_function("!seen")
    rests = inside.evaluate("planes.chains.transitions")
    page.wait_for_timeout(200)
    assert inside.evaluate("planes.chains.transitions") == rests
    links.first.click()
    page.wait_for_function("typeof planes !== 'undefined' && planes && planes.chains", timeout=60_000)
    assert page.evaluate("[state.logit, state.sampler]") == ["exact", "mala"]
    page.click(".home a")
    page.wait_for_url(re.compile("index.html"))
    assert page.locator(".sidebar-drawer .playground a").get_attribute("href") == "playground.html"
    assert not complaints
    page.context.close()


def code(source: str, **more) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, **more)


def test_which_code_is_folded():
    long, figure = "x = 1\n" * LONG, [nbformat.v4.new_output("display_data", {"image/png": ""})]
    assert is_folded(code(long)) and is_folded(code("plt.plot(x)", outputs=figure))
    assert is_folded(code("# Set-up, the same in every notebook"))
    assert not is_folded(code("x = 1"))
    for lesson in ("f = build(check_f, f)", "### BEGIN SOLUTION", "return None  # your code"):
        assert not is_folded(code(long + lesson))
    assert not is_folded(code(long, metadata={"tags": ["show-code"]}))


def test_a_figure_is_said_in_words():
    source = 'ax.set_title(f"density of $p_g$, {n} points")\nshow(ax, title="b")\nfig.suptitle("b")'
    assert alternative("3. MALA", source) == "Figure, 3. MALA: density of p_g, … points, b"
    source = (
        'ax.set(xlabel="step", ylabel=r"$\\varepsilon$")\nax.plot(x, label=f"{k}")\nax.plot(x, label="MALA")'
    )
    assert alternative("4. On $D$ ☆", source) == "Figure, 4. On D: axes step, ε; marks MALA"
    assert alternative("3. MALA", "plt.plot(x)") == "Figure, 3. MALA"


def test_snippets_are_plain_text(tmp_path):
    assert (
        plain(r"\(p_t(z)\propto e^{-E},\ \lVert\nabla\varepsilon\rVert\)").split()
        == "p_t(z)∝ e^-E, ‖∇ε‖".split()
    )
    assert plain(r"\[\log\frac{p_d}{p_g}\tag{1}\]").split() == ["log", "(p_d)/(p_g)"]
    page = tmp_path / "page.html"
    page.write_text(
        '<article><section id="a"><h1>A</h1><p>Take <span class="math">\\(\\lambda \\le 1\\)</span>.</p>'
        '<details class="hide"><summary>Show the code</summary><pre>x</pre></details></section></article>'
    )
    assert texts(page) == [("a", "A", "Take λ ≤ 1 .")]


def test_playground_is_linked_where_it_belongs():
    assert all(any(chapter.startswith(number) for chapter in CHAPTERS) for number in LINKS)
    shown = [nbformat.v4.new_output("stream", text=f"{SLIDERS}\n")]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# a"), code("b", outputs=shown)]
    )
    sources = [cell.source for cell in notebook_for_book(notebook, "06").cells]
    assert [source.count("playground.html#d=none") for source in sources] == [0, 1, 0, 1, 1]
    assert [re.findall('<iframe .*src="(.*?)"', source) for source in sources] == [
        [], [], [], [f"../playground.html#{LINKS['06'][0][0]}"], [],
    ]  # fmt: skip
    other = notebook_for_book(notebook, "11").cells
    assert len(other) == 3 and "run.py lab" in other[2].source and other[1].outputs == []
    assert SLIDERS in inspect.getsource(explore)


def drawn(draw) -> bytes:
    """A figure that `draw` draws on one pair of axes, as PNG."""
    fig, ax = plt.subplots(figsize=(4, 3), dpi=90)
    draw(ax)
    png = io.BytesIO()
    fig.savefig(png)
    plt.close(fig)
    return png.getvalue()


def pixels(png: bytes, page: int = 0) -> np.ndarray:
    """(h, w, 3), a PNG that lies over a page of this grey."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (page, page, page, 255)), image))[
        ..., :3
    ]


def plot(colour: str):
    return lambda ax: ax.plot([0, 1], [0, 1], color=colour, lw=3)


def heat(**image):
    return lambda ax: ax.imshow(np.arange(2500.0).reshape(50, 50), **image)


def test_a_dark_figure_has_no_paper_and_light_ink():
    light = drawn(lambda ax: (plot("#0072B2")(ax), ax.axvspan(0.6, 0.9, color="#E69F00", alpha=0.3)))
    before, after = pixels(light).astype(int), pixels(dark_figure(light), 20).astype(int)
    assert (after[before.min(-1) == 255] == 20).all()  # the page shows
    ink = before.max(-1) < 40
    assert ink.sum() > 200 and after[ink].min() > 180
    line = (before == [0x00, 0x72, 0xB2]).all(-1)
    assert line.sum() > 200 and np.abs(after[line] - before[line]).max() < 30
    band = (before == before[120, 240]).all(-1)  # pale on white, dim on the dark page, of the same hue
    assert band.sum() > 5000 and after[band].mean() < 130 and (np.diff(after[band][0]) < 0).all()


@pytest.mark.parametrize("cmap", ["cividis", "viridis", "RdBu"])
def test_a_map_stays_pixel_by_pixel(cmap):
    light = drawn(heat(cmap=cmap))
    before, after = pixels(light), pixels(dark_figure(light), 20)
    inside = np.s_[60:220, 110:240]  # of the map, less its border
    assert len(np.unique(before[inside].reshape(-1, 3), axis=0)) > 30
    assert (before[inside] == after[inside]).all() and (after[:5] == 20).all()


def test_photographs_stay_a_card():
    noise = np.random.default_rng(0).random((12, 12, 3)) ** 3
    assert dark_figure(drawn(lambda ax: ax.imshow(noise))) is None
    digit = np.ones((12, 12)) - np.pad(np.ones((6, 6)), 3)  # black on white, a negative
    assert dark_figure(drawn(lambda ax: ax.imshow(digit, cmap="gray"))) is None
    assert dark_figure(drawn(plot("black"))) is not None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_follow_the_theme(site: Path, browser, theme):
    page = browser.new_page(color_scheme=theme)
    page.goto((site / "notebooks" / "04_energy_models_and_langevin.html").as_uri())
    shown = page.eval_on_selector_all(
        ".cell_output img", "all => all.filter(i => i.getClientRects().length).map(i => i.className)"
    )
    assert len(shown) > 8 and set(shown) == {f"only-{theme}"}
    page.context.close()
