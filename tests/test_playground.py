"""The playground computes what `utils` does, keeps its budgets, and works in a browser without a network."""

import base64
import json
import shutil
import subprocess
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from data.recipes.playground import CELLS, PLANES, PLAYGROUND, QUALITIES, SCALE
from notebooks.tools.book import LINKS
from notebooks.tools.playground import HERE, main, package_networks, stored_networks
from utils.checkpoints import read_card
from utils.density_ratio import Affine
from utils.energy import latent_energy, standard_normal
from utils.metrics.toy import assign, energy_distance, high_quality_share, mode_balance
from utils.plotting import image_grid
from utils.samplers import energy_and_gradient, hmc, mala, sample, ula
from utils.toy import TARGETS, GridLogit
from utils.zoo import build, checkpoint_of, load_gan, load_logit

KEYS = [f"{target}-{quality}" for target in PLANES for quality in QUALITIES]
LOGITS = ("none", "raw", "calibrated", "refitted", "exact")
N = 64

# What the page's core makes of the cases; `real` is the type of its numbers.
DRIVER = """async (core, input) => {
  const Real = input.real === 64 ? Float64Array : Float32Array;
  const replay = (draws) => ({
    normal: (out) => out.set(draws.shift()), uniform: (out) => out.set(draws.shift()),
  });
  const store = await core.unpack(input.packed), result = {};
  for (const [name, c] of Object.entries(input.cases)) {
    const compute = new core.Compute(Real, false, 1 << 21);
    const target = store.target(c.target), key = `${c.target}-${c.quality}`, lines = store.header.lines;
    const network = (kind) => store.network(compute, `${key}-${kind}`);
    const logit = {
      none: () => core.NO_LOGIT,
      raw: () => new core.NetworkLogit(network("D")),
      calibrated: () => new core.NetworkLogit(network("D"), ...lines[`${key}-raw`]),
      refitted: () => new core.NetworkLogit(network("refitted"), ...lines[`${key}-refitted`]),
      exact: () => new core.DensityLogit(target, store.table(`${key}-table`)),
    }[c.logit]();
    const energy = c.wells ? core.TWO_WELLS : new core.LatentEnergy(network("G"), logit);
    const chains = new core.Chains(energy, c.z.flat(), replay(c.draws));
    const out = { simd: !!compute.kernel, E: [...chains.E], slope: [...chains.slope], x: [...chains.x] };
    if (!c.wells) out.d = [...energy.d];
    for (let done = 0; done < c.steps;) if (chains.advance(c.settings)) done++;
    const shown = [...energy.x || chains.path];
    if (c.steps) Object.assign(out, { z: [...chains.z], end: [...chains.E], shown });
    if (c.points) {
      const x = c.points.flat(), { share, balance } = core.quality(x, target);
      const found = c.points.map((_, i) => target.assign(x, i));
      Object.assign(out, { share, balance, found, distance: core.energyDistance(x, c.others.flat()) });
    }
    result[name] = out;
  }
  return result;
}"""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def networks() -> tuple[dict, dict]:
    return stored_networks()


@pytest.fixture(scope="module")
def in_core(request):
    """What `async (core, given) => ...` returns with the page's core: in node, else in Chromium."""

    def call(function: str, given: object) -> dict:
        if node := shutil.which("node"):
            core = json.dumps(str(HERE / "core.js"))
            read = 'JSON.parse(require("fs").readFileSync(0))'
            text = f"({function})(require({core}), {read}).then((r) => console.log(JSON.stringify(r)));"
            command = [node, "-e", text]
            done = subprocess.run(
                command, input=json.dumps(given), capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr[-2000:]
            return json.loads(done.stdout)
        page = request.getfixturevalue("browser").new_page()
        page.add_script_tag(content="var module = {};" + (HERE / "core.js").read_text(encoding="utf-8"))
        return page.evaluate(f"(given) => ({function})(module.exports, given)", given)

    return call


@pytest.fixture(scope="module")
def compute(in_core):
    packed = base64.b64encode(package_networks()).decode()
    return lambda cases, real=64: in_core(DRIVER, {"packed": packed, "cases": cases, "real": real})


class Zero(nn.Module):
    def forward(self, x):
        return 0 * x[:, 0]


def gan(networks: tuple[dict, dict], key: str, logit: str) -> tuple[nn.Module, nn.Module]:
    """The generator and a log ratio by `utils` in double precision, weights rounded to half."""
    states, card = networks
    target = PLANES[key.rsplit("-", 1)[0]]

    def filled(module: nn.Module, kind: str) -> nn.Module:
        module.load_state_dict({name: value.half() for name, value in states[f"{key}-{kind}"].items()})
        return module.double().eval().requires_grad_(False)

    G, D = build(0)
    G = filled(G, "G")
    if logit == "none":
        return G, Zero().eval()
    if logit == "exact":
        steps = np.frombuffer(zlib.decompress(states[f"{key}-table"]["packed"].numpy().tobytes()), "<i2")
        table = torch.from_numpy(steps.reshape(CELLS, CELLS).cumsum(1) / SCALE)
        extent, _ = card["tables"][key.rsplit("-", 1)[0]]
        exact = GridLogit(
            target.log_prob, target.sample, seeded(0), n_samples=10, extent=extent, n=len(table)
        )
        exact.log_density = table[None, None]
        return G, exact.double().eval()
    D = filled(D, "refitted" if logit == "refitted" else "D")
    if logit == "raw":
        return G, D
    line = card["lines"][f"{key}-{'refitted' if logit == 'refitted' else 'raw'}"]
    return G, Affine(D, *line).double().eval()


def worst(ours, theirs) -> float:
    """Largest difference, relative where numbers are larger than 1."""
    theirs = np.asarray(theirs, dtype=float).ravel()
    return float((np.abs(np.asarray(ours).ravel() - theirs) / np.maximum(1, np.abs(theirs))).max())


@pytest.mark.parametrize("key", KEYS)
def test_same_logit_energy_and_gradient(key, compute, networks):
    target, quality = key.rsplit("-", 1)
    z = torch.randn(N, 2, generator=seeded(1), dtype=torch.float64)
    common = {"target": target, "quality": quality, "z": z.tolist(), "draws": [], "steps": 0}
    cases = {logit: common | {"logit": logit} for logit in LOGITS}
    exactly = compute(cases)
    single = compute(cases, real=32)
    assert single["raw"]["simd"], "no WebAssembly with SIMD"
    for logit in LOGITS:
        G, d = gan(networks, key, logit)
        energy, gradient = energy_and_gradient(latent_energy(G, d), z)
        for result, tolerance in ((exactly[logit], 1e-6), (single[logit], 1e-4)):
            assert worst(result["x"], G(z)) < tolerance
            assert worst(result["d"], d(G(z))) < tolerance
            assert worst(result["E"], energy) < tolerance
        assert worst(exactly[logit]["slope"], gradient) < 1e-6
        # steep slopes lose digits in single precision, in torch as here
        _, rounded = energy_and_gradient(latent_energy(G.float(), d.float()), z.float())
        assert worst(single[logit]["slope"], gradient) < max(1e-4, 4 * worst(rounded, gradient))


def recorded(sampler: str, steps: int, seed: int) -> list:
    """The random numbers that `sample` draws from this seed, in its order."""
    generator, draws = seeded(seed), []
    for _ in range(steps):
        draws.append(torch.randn(N, 2, generator=generator, dtype=torch.float64).flatten().tolist())
        if sampler != "ula":
            draws.append(torch.rand(N, generator=generator).tolist())
    return draws


@pytest.mark.parametrize("sampler", ["ula", "mala", "hmc"])
@pytest.mark.parametrize(
    "key, logit, steps",
    [
        ("25-gaussians-imperfect", "refitted", 40),
        ("swiss-roll-imperfect", "calibrated", 40),
        ("ring-good", "exact", 5),  # flights over steep walls are chaotic: rounding grows tenfold in a step
    ],
)
def test_same_chain_with_the_same_noise(sampler, key, logit, steps, compute, networks):
    target, quality = key.rsplit("-", 1)
    h, temperature = 0.04, 0.7
    kernel = {"ula": ula(h**2, temperature), "mala": mala(h**2, temperature), "hmc": hmc(h, 5, temperature)}
    z0 = torch.randn(N, 2, generator=seeded(2), dtype=torch.float64)
    case = {
        "target": target, "quality": quality, "logit": logit, "z": z0.tolist(), "steps": steps,
        "draws": recorded(sampler, steps, 3),
        "settings": {"sampler": sampler, "stepSize": h**2, "temperature": temperature, "leapfrog": 5},
    }  # fmt: skip
    result = compute({"chain": case})["chain"]
    G, d = gan(networks, key, logit)
    chain = sample(latent_energy(G, d), z0, kernel[sampler], steps, seeded(3))
    assert worst(result["z"], chain.z) < 1e-4 and worst(result["end"], chain.energy) < 1e-4
    assert worst(result["shown"], G(chain.z)) < 1e-4  # a rejected proposal is not what is shown
    assert 0.05 < (chain.acceptance.mean() if sampler != "ula" else 0.5) < 0.999  # both branches were taken


def test_underdamped_limits_and_law(compute):
    """With a large friction it is MALA, chain by chain; with little it keeps the law of the two valleys."""
    z0 = torch.randn(N, 2, generator=seeded(2), dtype=torch.float64)
    common = {"target": "ring", "quality": "good", "logit": "none", "wells": True, "z": z0.tolist()}
    settings = {"stepSize": 0.1, "temperature": 0.8}
    cases = {
        name: common | {
            "steps": 30, "draws": recorded("mala", 30, 4),
            "settings": settings | {"sampler": name, "friction": 1e6},
        } for name in ("mala", "underdamped")
    }  # fmt: skip
    result = compute(cases)
    assert worst(result["underdamped"]["z"], result["mala"]["z"]) < 1e-9

    def wells(z):
        x, y = z.unbind(1)
        return 0.4 * (x**2 - 2.25) ** 2 + 0.3 * x + (y + 0.75 - x**2 / 3) ** 2

    energy, gradient = energy_and_gradient(wells, z0)
    assert worst(result["mala"]["E"], energy) < 1e-9 and worst(result["mala"]["slope"], gradient) < 1e-9
    n, steps = 1500, 60
    line = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    p = torch.softmax(-(0.4 * (line**2 - 2.25) ** 2 + 0.3 * line) / 0.8, 0)
    x = line[torch.multinomial(p, n, replacement=True, generator=seeded(5))]
    y = x**2 / 3 - 0.75 + (0.4**0.5) * torch.randn(n, generator=seeded(6), dtype=torch.float64)
    generator = seeded(7)
    draws = []
    for _ in range(steps):
        draws.append(torch.randn(2 * n, generator=generator).tolist())
        draws.append(torch.rand(n, generator=generator).tolist())
    slow = settings | {"sampler": "underdamped", "friction": 0.3, "stepSize": 0.4}
    case = common | {"z": torch.stack([x, y], 1).tolist(), "steps": steps, "draws": draws, "settings": slow}
    end = torch.tensor(compute({"law": case})["law"]["end"])
    mean = (p * (0.4 * (line**2 - 2.25) ** 2 + 0.3 * line)).sum() + 0.4  # of E under the target
    assert abs(end.mean() - mean) < 4 * end.std() / n**0.5


@pytest.mark.parametrize("target", PLANES)
def test_same_measures(target, compute):
    density = PLANES[target]
    x = density.sample(300, seeded(1)).double()
    x[:100] += 0.25 * torch.randn(100, 2, generator=seeded(2), dtype=torch.float64)
    others = density.sample(500, seeded(3)).double()
    case = {
        "target": target, "quality": "good", "logit": "none", "z": x[:2].tolist(), "draws": [], "steps": 0,
        "points": x.tolist(), "others": others.tolist(),
    }  # fmt: skip
    result = compute({"measures": case})["measures"]
    distance, mode, _ = assign(x, density)
    assert worst([row[0] for row in result["found"]], distance) < 1e-4
    assert [row[1] for row in result["found"]] == mode.tolist()
    assert 0.1 < result["share"] < 1 and result["share"] == pytest.approx(high_quality_share(x, density))
    assert result["balance"] == pytest.approx(mode_balance(x, density), abs=1e-6)
    assert result["distance"] == pytest.approx(energy_distance(x, others), abs=1e-6)


def test_prior_of_the_page_is_that_of_utils(compute):
    z = torch.randn(N, 2, generator=seeded(1), dtype=torch.float64)
    case = {"target": "ring", "quality": "good", "logit": "none", "z": z.tolist(), "draws": [], "steps": 0}
    result = compute({"prior": case})["prior"]
    assert worst(result["E"], -standard_normal(z)) < 1e-9


def test_networks_were_fitted_to_the_stored_gans():
    made_from = read_card("networks", PLAYGROUND)["made_from"]
    for target in TARGETS:
        now = read_card(checkpoint_of(target))["sha256"]
        assert made_from[target] == now, "run `python -m data.recipes.playground networks` again"


def test_strips_are_of_the_stored_generator():
    about = json.loads((PLAYGROUND / "strips.json").read_text(encoding="utf-8"))
    G, d = load_gan(about["gan"]), load_logit(name=about["gan"])
    with torch.no_grad():
        x = G(torch.randn(about["chains"], G.latent_dim, generator=seeded(0)))
        logit = d(x).mean()
    assert about["mean_logit"][0] == pytest.approx(logit.item(), abs=0.01), "make the strips again"
    sheet = np.asarray(Image.open(PLAYGROUND / "strips.webp").convert("RGB"), int)
    start = image_grid(x, columns=about["chains"], pad=0).astype(int)  # of every step size, but for the WebP
    assert all(
        np.abs(part[: about["tile"]] - start).mean() < 8 for part in np.split(sheet, len(about["step_sizes"]))
    )


def test_live_fit_finds_a_log_ratio(in_core):
    """Between two Gaussians the best logit is linear: N(1, I) against N(0, I) has d = x_1 - 1/2."""
    function = """async (core) => {
      const noise = new core.Noise(1), fit = new core.LiveFit(new core.Compute(), noise);
      const [real, fake] = [1, 0].map((mean) => new core.Mixture(Float64Array.of(mean, 0), 1));
      for (let i = 0; i < 600; i++) {
        fit.train(real.sample(256, noise), fake.sample(256, noise), 2e-3 * (1 - i / 600));
      }
      const x = fake.sample(500, noise), d = new Float64Array(500), slope = new Float64Array(1000);
      fit.logit.evaluate(x, 0, 500, d, slope);
      let error = 0, tilt = 0;
      for (let i = 0; i < 500; i++) error += (d[i] - x[2 * i] + 0.5) ** 2 / 500, tilt += slope[2 * i] / 500;
      return { error, tilt, loss: fit.loss };
    }"""
    result = in_core(function, None)
    assert result["error"] < 0.1 and abs(result["tilt"] - 1) < 0.25 and 0.5 < result["loss"] < 0.65


# ------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "playground.html"
    main(["--output", str(path)])
    assert '<p class="home" hidden>' in path.read_text(encoding="utf-8")  # there is no book yet
    path.with_name("index.html").touch()
    main(["--output", str(path)])
    return path


def test_page_is_one_small_file(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert len(text.encode()) <= 3_000_000
    outside = [f'{tag}="{scheme}' for tag in ("src", "href") for scheme in ("http", "//", "file:")]
    assert not [found for found in (*outside, "import(", "fetch(", "@import", "url(") if found in text]
    files = [*HERE.glob("*.*"), HERE.parents[2] / "data" / "recipes" / "playground.py"]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files if path.is_file())
    assert lines <= 2000


@pytest.fixture
def tab(browser, page_file):
    """`open(hash, width)` in a browser without a network; an error on the page fails the test."""
    contexts, errors = [], []

    def visit(settings: str = "", width: int = 1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{page_file.as_uri()}#{settings}")
        page.wait_for_function("typeof planes !== 'undefined' && planes && planes.chains", timeout=60_000)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not errors


def steps(page) -> int:
    return page.evaluate("planes.chains.transitions")


def test_space_plays_and_the_measures_move(tab):
    page = tab("play=0")
    assert steps(page) == 0
    page.keyboard.press(".")
    assert steps(page) == 1
    page.keyboard.press("Space")
    page.wait_for_function("planes.chains.transitions > 20", timeout=60_000)
    shown = page.locator(".card output").all_inner_texts()
    assert len(shown) == 4 and shown[0].endswith("%") and "–" not in shown
    page.keyboard.press("Space")
    before = steps(page)
    page.wait_for_timeout(300)
    assert steps(page) == before


def test_permalink_holds_the_settings(tab):
    page = tab("t=swiss-roll&g=good&d=calibrated&s=hmc&e=0.01&T=0.5&L=4&n=100&play=0")
    found = page.evaluate(
        "[state.target, state.generator, state.logit, state.sampler, state.leapfrog, planes.chains.n]"
    )
    assert found == ["swiss-roll", "good", "calibrated", "hmc", 4, 100]
    page.locator("#controls input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.stepSize") > 0.01
    again = tab(page.evaluate("location.hash").lstrip("#"))
    assert again.evaluate("JSON.stringify(state)") == page.evaluate("JSON.stringify(state)")
    broken = tab("t=nonsense&e=minus&n=1e9&x=%00&tab=9")
    assert broken.evaluate("[state.target, state.chains, state.tab]") == ["25-gaussians", 1000, "planes"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["planes", "valleys", "images"])
def test_every_tab_fits_its_width(tab, which, width):
    page = tab(f"tab={which}", width)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(f"#{which}").is_visible()
    assert page.locator(".home a").is_visible()


def test_thirty_frames_a_second(tab):
    """In seconds of the page's thread, so that a busy machine does not change it much."""
    page = tab("d=refitted&s=mala&n=300")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> tuple[float, int]:
        metrics = {
            entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]
        }
        return metrics["TaskDuration"], page.evaluate("painted")

    page.wait_for_function("planes.heats.every(heat => heat.done)", timeout=60_000)  # the maps are sharp
    seconds, frames = spent()
    page.wait_for_function(f"painted > {frames} + 30", timeout=60_000)
    later, more = spent()
    assert (later - seconds) / (more - frames) < 1 / 30


def test_links_of_the_book_are_settings(tab):
    """Each is a permalink as the page itself would write it: no key or value that it does not know."""
    page = tab("play=0")
    for settings in {settings for links in LINKS.values() for settings, _ in links}:
        page.evaluate(
            "settings => { history.replaceState(null, '', `#${settings}`); readHash(); state.play = 1; }",
            settings,
        )
        assert sorted(page.evaluate("hash().slice(1).split('&')")) == sorted(settings.split("&")), settings


def test_reader_draws_and_the_log_ratio_is_fitted(tab):
    page = tab("t=drawn&g=good&d=live&s=mala&e=0.003&play=0")
    page.locator("#clear").click()
    box = page.locator("#data").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(box["x"] + (0.3 + 0.04 * step) * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.up()
    modes = page.evaluate("planes.target.k")
    assert 10 <= modes <= 30
    again = tab(page.evaluate("location.hash").lstrip("#"))
    assert again.evaluate("planes.target.k") == modes  # the permalink holds the drawing
    page.keyboard.press("Space")
    page.wait_for_function("planes.fit.step > 150", timeout=120_000)
    assert page.evaluate("planes.fit.loss") < 0.45


def test_data_are_drawn_with_keys(tab):
    """Arrow keys move the pen, Shift lets it draw; no stroke is left for the mouse to go on with."""
    page = tab("t=drawn&g=good&d=live&play=0")
    page.locator("#clear").press("Enter")
    page.focus("#data")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift")
    assert page.evaluate("[planes.pen[1], planes.stroke, planes.cleared]") == [0.12, None, True]
    page.keyboard.down("Shift")
    for key in 7 * ["ArrowLeft"] + 5 * ["ArrowDown"]:
        page.keyboard.press(key)
    assert page.evaluate("planes.stroke.length") == 24
    page.keyboard.up("Shift")
    k, means = page.evaluate("[planes.target.k, [...planes.target.means]]")
    assert k == 12 and max(abs(v - w) for v, w in zip(means[-2:], [-0.84, -0.48], strict=True)) < 0.01
    page.locator("#latent").hover()
    assert page.evaluate("[planes.stroke, planes.target.k]") == [None, 12]


def test_a_finger_draws_and_does_not_move_the_page(tab):
    page = tab("t=drawn&g=good&d=live&play=0", 390)
    page.locator("#clear").click()
    page.evaluate("$('data').scrollIntoView({ block: 'center' })")
    box, before = page.locator("#data").bounding_box(), page.evaluate("scrollY")
    finger = page.context.new_cdp_session(page)
    for step in range(11):
        point = {
            "x": box["x"] + (0.3 + 0.04 * step) * box["width"],
            "y": box["y"] + (0.3 + 0.04 * step) * box["height"],
        }
        finger.send(
            "Input.dispatchTouchEvent",
            {"type": "touchMove" if step else "touchStart", "touchPoints": [point]},
        )
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("planes.target.k >= 8 && planes.target.k <= 12")
    assert page.evaluate("scrollY") == before


def test_browser_computes_what_utils_does(tab, networks):
    page = tab("d=calibrated&n=100&play=0")
    z, energies = page.evaluate("[[...planes.chains.z], [...planes.chains.E]]")
    pairs = [z[i : i + 2] for i in range(0, len(z), 2)]
    G, d = gan(networks, "25-gaussians-imperfect", "calibrated")
    energy, _ = energy_and_gradient(latent_energy(G, d), torch.tensor(pairs, dtype=torch.float64))
    assert len(pairs) == 100 and worst(energies, energy) < 1e-4
