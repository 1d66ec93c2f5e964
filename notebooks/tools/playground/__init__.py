"""Build the playground, a page that needs no installation: `python -m notebooks.tools.playground`.

It writes `build/book/playground.html`: the sources beside this file, the stored 2-D networks in half
precision and the strip sheet of images in one file. `data/recipes/playground.py` makes what it draws.
"""

import argparse
import base64
import json
import re
import struct
import zlib
from pathlib import Path

from numpy.polynomial.legendre import leggauss
from torch import Tensor

from data.recipes.playground import CELLS, PLANES, PLAYGROUND, QUALITIES, SCALE
from utils.checkpoints import load_checkpoint
from utils.config import ROOT
from utils.metrics.toy import ROLL_BINS
from utils.toy import TARGETS
from utils.zoo import checkpoint_of

HERE = Path(__file__).parent
PAGE = ROOT / "build" / "book" / "playground.html"
SCRIPTS = ("core.js", "draw.js", "planes.js", "valleys.js", "strips.js", "page.js")  # in this order


def stored_networks() -> tuple[dict[str, dict[str, Tensor]], dict]:
    """`({"<target>-<quality>-<G, D, refitted or table>": state}, card)` of everything the page draws."""
    states, card = load_checkpoint("networks", PLAYGROUND)
    for target in TARGETS:
        gans, _ = load_checkpoint(checkpoint_of(target))
        for quality in QUALITIES:
            for network in "GD":
                name = f"{quality}-{card['seeds'][target]}-{network}"
                states[f"{target}-{quality}-{network}"] = gans[name]
    return states, card


def describe(target) -> dict:
    """What the page needs to know of a target."""
    if hasattr(target, "means"):
        return {"means": target.means.double().tolist(), "std": target.std}
    u, weights = leggauss(target.n_nodes)  # of the quadrature along the roll
    return {
        "noise": target.noise, "scale": target.scale, "bins": ROLL_BINS,
        "u": u.tolist(), "weights": weights.tolist(),
    }  # fmt: skip


def package_networks() -> bytes:
    """All networks and tables in one deflated block: a length, a JSON header, then half floats and integers.

    A network is its weights and biases layer by layer, a table what the recipe's `packed` says.
    """
    states, card = stored_networks()
    body = bytearray()
    networks, tables = {}, {}
    for name, state in sorted(states.items()):
        at = len(body)
        if name.endswith("-table"):
            extent, _ = card["tables"][name.removesuffix("-table").rsplit("-", 1)[0]]
            tables[name] = {"at": at, "n": CELLS, "extent": extent, "scale": SCALE}
            body += zlib.decompress(state["packed"].numpy().tobytes())
        else:
            keys = sorted((key for key in state if key.endswith("weight")), key=list(state).index)
            keys.sort(key=lambda key: (key.startswith("head"), key))
            networks[name] = {"at": at, "shapes": [list(state[key].shape) for key in keys]}
            for key in keys:
                for part in (state[key], state[key.replace("weight", "bias")]):
                    body += part.numpy().astype("<f2").tobytes()
    header = {
        "networks": networks,
        "tables": tables,
        "lines": card["lines"],
        "targets": {name: describe(target) for name, target in PLANES.items()},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)  # the body begins at a multiple of four
    return zlib.compress(struct.pack("<I", len(text)) + text + bytes(body), 9)


def page() -> str:
    """The whole page as one HTML text."""
    sheet = base64.b64encode((PLAYGROUND / "strips.webp").read_bytes()).decode()
    about = (PLAYGROUND / "strips.json").read_text(encoding="utf-8")
    data = {
        "NETWORKS": json.dumps(base64.b64encode(package_networks()).decode()),
        "SHEET": json.dumps(f"data:image/webp;base64,{sheet}"),
        "STRIPS": about,
    }
    constants = "".join(f"const {name} = {value};\n" for name, value in data.items())
    scripts = constants + "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    parts = {"style": (HERE / "page.css").read_text(encoding="utf-8"), "script": scripts}
    html = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"/\* (style|script) \*/", lambda match: parts[match[1]], html)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE, help="where the page goes")
    path = parser.parse_args(arguments).output
    path.parent.mkdir(parents=True, exist_ok=True)
    home = 'class="home"' + ("" if (path.parent / "index.html").exists() else " hidden")  # back to the book
    path.write_text(page().replace('class="home"', home), encoding="utf-8")
    print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
