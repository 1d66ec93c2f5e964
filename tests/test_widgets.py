"""The drawing functions need no front end: they run, repeat themselves, and evaluate no more than needed."""

import contextlib

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from notebooks.tools.execute import execute
from utils.config import ROOT
from utils.energy import standard_normal
from utils.widgets import explore, explore_langevin, show_langevin, slider

SETTINGS = {"step_size": 0.05, "n_steps": 7, "n_chains": 30}


@pytest.fixture(autouse=True)
def no_windows():
    matplotlib.use("agg")
    yield
    plt.close("all")


def energy(z):
    return -standard_normal(z)


def double(z):
    return 2 * z


def picture(energy=energy, **settings):
    figure, axes = plt.subplots(1, 2)
    chain = show_langevin(axes, energy, double, **SETTINGS | settings)
    figure.canvas.draw()
    return figure, axes, chain


def test_same_seed_same_picture():
    (first, _, chain), (second, _, again), (_, _, other) = picture(), picture(), picture(seed=1)
    assert bytes(first.canvas.buffer_rgba()) == bytes(second.canvas.buffer_rgba())
    assert torch.equal(chain.z, again.z)
    assert not torch.equal(chain.z, other.z)


def test_energy_is_evaluated_once_a_step_and_once_for_the_map():
    calls = []
    picture(lambda z: calls.append(len(z)) or energy(z))
    assert calls.count(30) == 1 + SETTINGS["n_steps"]
    assert calls.count(100 * 100) == 1
    assert sum(calls) <= 30 * (2 + SETTINGS["n_steps"]) + 100 * 100  # the sampler looks at some starts twice


def test_ends_are_pushed_and_drawn_beside_the_ways_of_some_chains():
    _, (latent_axes, data_axes), chain = picture(n_traced=2)
    dots, *ways = latent_axes.lines
    torch.testing.assert_close(torch.tensor(dots.get_xydata()).float(), chain.z)
    assert len(ways) == 2
    torch.testing.assert_close(torch.tensor(ways[1].get_xydata()).float(), chain.path[:, 1])
    torch.testing.assert_close(torch.tensor(data_axes.lines[0].get_xydata()).float(), 2 * chain.z)


def test_the_energy_has_a_scale_and_the_marks_a_legend():
    figure, (latent_axes, _), _ = picture(n_traced=2)
    assert [axes.get_ylabel() for axes in figure.axes[2:]] == ["E(z), nats above its least"]
    assert [text.get_text() for text in latent_axes.get_legend().texts] == [
        "chains, at their ends", "the way of 2",
    ]  # fmt: skip


def test_chains_outside_the_picture_are_counted():
    _, (_, data_axes), chain = picture(extent=1.0)
    outside = int(((2 * chain.z).abs() > 1).any(1).sum())
    assert 0 < outside < 30
    assert f"{outside} outside" in data_axes.get_title()


def test_acceptance_is_told_only_with_the_correction():
    assert "acceptance" in picture(corrected=True)[1][1].get_title()
    assert "acceptance" not in picture()[1][1].get_title()


def test_a_density_is_drawn_when_given():
    assert len(picture()[1][1].images) == 0
    assert len(picture(log_prob=standard_normal)[1][1].images) == 1


def test_divergence_is_said_in_the_picture():
    _, (_, data_axes), chain = picture(lambda z: z.square().sum(1) ** 3, step_size=1.0, n_steps=30)
    assert chain is None
    assert "lower the step size" in data_axes.get_title()


def test_an_energy_out_of_all_bounds_is_a_divergence():
    _, (_, data_axes), chain = picture(lambda z: 1e7 + z.square().sum(1))
    assert chain is None and "diverged" in data_axes.get_title()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="step_size"):
        picture(step_size=-1.0)


@pytest.fixture
def page(monkeypatch):
    """What `explore` shows: the panel, and every picture in turn."""

    class Page:
        pictures, panel = (), None

        def display(self, shown, display_id=False):
            if not display_id:
                self.panel = shown
                return None
            self.update(shown)
            return self

        def update(self, picture):
            self.pictures = (*self.pictures, picture.data)

    shown = Page()
    monkeypatch.setattr("utils.widgets.display", shown.display)
    return shown


def sign(page) -> ipywidgets.Label:
    return page.panel.children[-1].children[1]


def test_reset_puts_every_slider_back(page):
    controls = {name: slider(ipywidgets.IntSlider, name, value=1, min=0, max=3) for name in "ab"}
    explore(lambda a, b: plt.figure(figsize=(1 + a, 1 + b)), **controls)
    controls["a"].value = controls["b"].value = 3
    page.panel.children[-1].children[0].click()
    assert [control.value for control in controls.values()] == [1, 1]
    assert page.pictures[-1] == page.pictures[0] != page.pictures[-2]


def test_a_picture_for_each_change_and_its_errors_beside_the_sliders(page):
    def draw(k):
        plt.figure(figsize=(1, 1)).text(0, 0, f"{1 / k}")

    control = slider(ipywidgets.IntSlider, "k", value=1, min=0, max=3)
    explore(draw, k=control)
    control.value = 2
    control.value = 0
    assert len(set(page.pictures)) == 2 and page.pictures[0].startswith(b"\x89PNG")
    assert page.panel.children[0] is control
    assert "ZeroDivisionError" in sign(page).value
    control.value = 1
    assert page.pictures[2] == page.pictures[0] and sign(page).value == ""
    assert plt.get_fignums() == []


def test_a_sign_says_that_it_computes(page):
    signs = []
    control = slider(ipywidgets.IntSlider, "k", value=1, min=0, max=3)
    explore(lambda k: signs.append(sign(page).value) or plt.figure(figsize=(1, 1)), k=control)
    control.value = 2
    assert signs == ["", "computing ..."]


def test_sliders_redraw_with_the_chosen_quality(page):
    seen = []
    explore_langevin(lambda quality: seen.append(quality) or energy, double, [0.0, 0.5, 1.0], n_chains=10)
    quality, step_size, n_steps, temperature, corrected, _ = page.panel.children
    assert seen == [1.0]  # drawn once, with the best
    quality.value = 0.5
    n_steps.value = 20
    corrected.value = True
    assert seen == [1.0, 0.5, 0.5, 0.5] and len(set(page.pictures)) == 3
    assert [s.continuous_update for s in (quality, step_size, n_steps, temperature)] == [True] * 4
    assert (step_size.description, temperature.description) == ("step size ε", "temperature T")


def test_qualities_may_have_labels(page):
    seen = []
    explore_langevin(lambda quality: seen.append(quality) or energy, double, [("bad", 1), ("good", 7)])
    assert seen == [7]


CELL = """import matplotlib.pyplot as plt
from ipywidgets import IntSlider
from utils.widgets import explore, slider
explore(lambda k: plt.subplots(figsize=(k, 1)), k=slider(IntSlider, "k", value=2, min=1, max=9))"""


def test_the_first_picture_is_stored_as_an_ordinary_output(tmp_path, monkeypatch, capsys):
    """And a cell that takes long without a bar is named."""
    monkeypatch.setattr("notebooks.tools.execute.SILENT", 0)
    sources = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{CELL}", "print('faces: 100%|####| 3/3')"
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    execute(path, path)
    outputs = nbformat.read(path, as_version=4).cells[0].outputs
    text, picture = [output for output in outputs if output.get("name") != "stderr"]
    assert "once this cell has been run" in text.text
    assert picture.output_type == "display_data" and picture.data.keys() == {"image/png", "text/plain"}
    named = [line for line in capsys.readouterr().out.splitlines() if "without a bar" in line]
    assert [line.split(":")[0] for line in named] == ["cell 1"]


SESSIONS = "fetch('/api/sessions').then(r => r.json())"
IDLE = f"{SESSIONS}.then(all => all.length > 0 && all.every(s => s.kernel.execution_state == 'idle'))"
CLOSE = "fetch('/api/sessions/' + s.id, {method: 'DELETE'})"
WIDTH = "document.querySelector('.jp-OutputArea img[src^=\"data:image/png\"]')?.naturalWidth"


@pytest.mark.slow
@pytest.mark.parametrize("front_end", ["lab/tree", "notebooks"])  # JupyterLab and Notebook 7
def test_keys_reset_restart_and_saving(front_end, lab, browser):
    """The slider's keys are its own; a lost kernel is said; the moved picture is there when opened again."""
    path = ROOT / "build" / f"test_widgets_{front_end[:3]}.ipynb"
    cells = [nbformat.v4.new_code_cell(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{CELL}")]
    cells += [nbformat.v4.new_markdown_cell("# the next heading")]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)

    def opened():
        page = browser.new_page()
        page.goto(f"{lab}/{front_end}/build/{path.name}?token=x")
        return page

    def width_after(key: str) -> int:
        before = page.evaluate(WIDTH)
        page.keyboard.press(key)
        page.wait_for_function(f"![0, {before}].includes({WIDTH} ?? 0)", timeout=30_000)
        assert page.evaluate("document.activeElement.className.includes('noUi-handle')")
        return page.evaluate(WIDTH)

    try:
        page = opened()
        page.click(".jp-CodeCell .cm-content", timeout=120_000)
        page.wait_for_function(IDLE, timeout=120_000)
        for _ in range(5):  # the page may not have its kernel yet
            page.click(".jp-CodeCell .cm-content")
            page.keyboard.press("Shift+Enter")
            with contextlib.suppress(Exception):
                page.wait_for_function(f"{WIDTH} > 0", timeout=40_000)
                break
        first = page.evaluate(WIDTH)
        page.wait_for_selector(".widget-slider .noUi-handle")
        page.focus(".widget-slider .noUi-handle")
        right = width_after("ArrowRight")
        assert first < right < width_after("End")
        page.click("button:text('Reset')")
        page.wait_for_function(f"{WIDTH} == {first}", timeout=30_000)
        page.focus(".widget-slider .noUi-handle")
        last = width_after("End")
        assert not page.locator(".course-lost").is_visible()
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
        page.click(".jp-MarkdownCell")
        page.keyboard.press("Escape")
        page.keyboard.press("0")  # twice: restart the kernel
        page.keyboard.press("0")
        page.click(".jp-Dialog .jp-mod-accept")
        page.wait_for_selector(".course-lost", state="visible", timeout=60_000)
        page.evaluate(f"{SESSIONS}.then(all => Promise.all(all.map(s => {CLOSE})))")
        page.context.close()
        page = opened()
        page.wait_for_function(f"{WIDTH} == {last}", timeout=60_000)
        assert "once this cell has been run" in page.inner_text(".jp-OutputArea")
        page.context.close()
    finally:
        path.unlink()
