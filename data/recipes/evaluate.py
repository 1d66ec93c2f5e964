"""Quality of Langevin samples at any n, by one process or several: `python -m data.recipes.evaluate`.

    torchrun --nproc-per-node 2 -m data.recipes.evaluate --gan cifar10-gan \\
        --step-size 0.05 --steps 10 -n 50000 --extractor cifar10-classifier

The chains are cut into blocks. Block k takes starts and noise from (seed, k), and worker r of w computes the
blocks r, r + w, ...: the chains do not depend on the number of workers. Each finished block is a file, in a
folder below data/runs that is named by its settings, so a run that was stopped goes on where it was, also
with other workers or a larger n. The first worker measures all features as every table here is measured,
by `utils.metrics.images.evaluate_features`. On a machine with GPUs worker r takes GPU r.
"""

import argparse
import hashlib
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from utils.checkpoints import read_card, write_atomically
from utils.config import RUNS, pick_device
from utils.energy import latent_energy
from utils.images import to_uint8
from utils.metrics.extractors import EXTRACTORS, Extractor, get_extractor
from utils.metrics.images import Reference, evaluate_features, load_reference
from utils.samplers import mala, sample, ula
from utils.zoo import load_gan, load_logit


def block_seed(seed: int, block: int) -> int:
    """The seed of one block; of all pairs of whole numbers, unlikely to be the same for any two."""
    return int(np.random.SeedSequence([seed, block]).generate_state(1)[0])


@torch.no_grad()
def make_block(
    G: nn.Module, logit: nn.Module, extractor: Extractor, n: int, seed: int, settings: dict
) -> dict[str, Tensor]:
    """`features k` (n, d) and `probabilities k` (n, c) of n chains after k steps."""
    kernel = {"ula": ula, "mala": mala}[settings["sampler"]](settings["step_size"])
    energy = latent_energy(G, logit, precision=settings["precision"])
    batch, chunk = (32, 100) if extractor.device.type == "cpu" else (256, 500)
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, G.latent_dim, generator=generator).to(extractor.device)
    block, done = {}, 0
    for steps in settings["steps"]:
        z, done = sample(energy, z, kernel, steps - done, generator, chunk_size=chunk).z, steps
        images = torch.cat([to_uint8(G(part)).cpu() for part in z.split(chunk)])
        features, probabilities = extractor.extract(images, batch)
        block |= {f"features {steps}": features, f"probabilities {steps}": probabilities}
    return block


def evaluate(
    G: nn.Module, logit: nn.Module, extractor: Extractor, reference: Reference, n: int, seed: int,
    settings: dict, folder: Path,
) -> list[dict] | None:  # fmt: skip
    """Sample n chains and measure them; every process of torch.distributed calls this together.

    `settings` are sampler ("ula" or "mala"), step_size, steps (numbers, rising), precision, block_size, and
    what else identifies the networks; they name the blocks' folder below `folder`, which all processes share.
    Returns in the first process one row for each number of steps, by `evaluate_features`, and None in the
    others. Raises ValueError for a number that is too small.
    """
    size = settings["block_size"]
    if n < 2 or size < 1 or min(settings["steps"]) < 0 or seed < 0:
        raise ValueError(f"n={n}, block_size={size}, seed={seed} or steps={settings['steps']} is too small")
    rank, workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    text = json.dumps(settings | {"seed": seed, "extractor": [extractor.name, extractor.weights]}, indent=1)
    folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    write_atomically(folder / "settings.json", lambda p: p.write_text(text + "\n", encoding="utf-8"))

    def block(k: int) -> dict[str, Tensor]:
        """Block k as it is stored, or a new one where there is none or a damaged one."""
        b = min(size, n - k * size)
        path = folder / f"block-{k:05d}-{b}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            made = make_block(G, logit, extractor, b, block_seed(seed, k), settings)
            write_atomically(path, lambda p: save_file(made, p))
            return made

    n_blocks = -(-n // size)
    for k in tqdm(range(rank, n_blocks, workers), unit="block", disable=rank > 0):
        block(k)
    if workers > 1:
        dist.barrier()
    if rank > 0:
        return None
    blocks = [block(k) for k in range(n_blocks)]
    whole = {key: torch.cat([part[key] for part in blocks]) for key in blocks[0]}
    rows = []
    for steps in settings["steps"]:
        features, probabilities = whole[f"features {steps}"], whole[f"probabilities {steps}"]
        report = evaluate_features(features, probabilities, extractor, reference)
        rows.append({"n_steps": steps} | report)
    return rows


def run(args: argparse.Namespace) -> None:
    """Load what the command line names, evaluate, and let the first worker write and print the result."""
    device = pick_device()
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    names = {"gan": args.gan, "logits": f"{args.gan}-logits"}
    settings = {key: getattr(args, key) for key in ("sampler", "step_size", "block_size", "logit")}
    settings |= {"steps": sorted(set(args.steps))} | names
    settings["precision"] = "float32" if args.sampler == "mala" else "bfloat16"
    settings["sha256"] = [read_card(name)["sha256"] for name in names.values()]
    G, logit = load_gan(args.gan, device), load_logit(args.logit, args.gan, device)
    extractor = get_extractor(args.extractor, device)
    reference = load_reference(extractor, args.split, args.gan.split("-")[0])
    rows = evaluate(G, logit, extractor, reference, args.n, args.seed, settings, args.folder)
    if rows is None:
        return
    name = f"{args.gan}-{args.logit}-{args.sampler}-{args.step_size:g}-n{args.n}-seed{args.seed}.json"
    protocol = settings | {"n": args.n, "seed": args.seed, "device": device.type, "torch": torch.__version__}
    text = json.dumps({"protocol": protocol, "rows": rows}, indent=1) + "\n"
    write_atomically(args.folder / name, lambda p: p.write_text(text, encoding="utf-8"))
    for row in rows:
        print(", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    print(f"written: {args.folder / name}")


def main(arguments: list[str] | None = None) -> None:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about, prog="evaluate")
    parser.add_argument("--gan", default="cifar10-gan", help="checkpoint; its first word names the data set")
    parser.add_argument("--logit", help="which of its logits (default: the chosen one)")
    parser.add_argument("--sampler", choices=("ula", "mala"), default="ula", help="ula: in bfloat16")
    parser.add_argument("--step-size", type=float, default=0.05)
    parser.add_argument("--steps", type=int, nargs="+", default=[10], help="0 is the generator alone")
    # torchrun on Python 3.11 stumbles over `--n`, which abbreviates options of its own: it needs `-n`
    parser.add_argument("-n", "--n", type=int, default=50_000, help="number of chains; `-n` under torchrun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block-size", type=int, default=500)
    parser.add_argument("--extractor", choices=EXTRACTORS, default="cifar10-classifier")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="of the real images")
    parser.add_argument("--folder", type=Path, default=RUNS / "evaluate", help="of blocks and results")
    args = parser.parse_args(arguments)
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed:
        # gloo also beside GPUs: what is sent lies on the CPU; whoever is ready first waits for the last
        dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        run(args)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"evaluate: {error}")
    finally:
        if distributed:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
