"""Quality of Langevin samples at any n, by one process or several: `python -m data.recipes.evaluate`.

    torchrun --nproc-per-node 2 -m data.recipes.evaluate --gan cifar10-gan --logit continued-r1 \\
        --step-size 0.1 --steps 25 -n 50000 --extractor cifar10-classifier

The chains are cut into blocks of fixed size. Block k takes starts and noise from (seed, k), and worker r of
w computes the blocks r, r + w, ...: the result does not depend on the number of workers, but for the last
digits. Each finished block is a file below data/runs, so a run that was stopped, by whatever, goes on where
it was, also with other workers or a larger n. The metrics are merged by torcheval over torch.distributed.
On a machine with GPUs worker r takes GPU r. The result is a JSON file that carries its protocol.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torcheval.metrics import Mean, Metric
from torcheval.metrics.toolkit import sync_and_compute_collection
from tqdm.auto import tqdm

from data.recipes.cifar10_study import CLASSIFIER, Job, run_chains
from utils.checkpoints import read_card, write_atomically
from utils.config import RUNS, pick_device
from utils.images import to_uint8
from utils.metrics.extractors import EXTRACTORS, Extractor, get_extractor
from utils.metrics.images import Reference, format_report, frechet_distance, load_reference, squared_mmd
from utils.metrics.merging import MergedClassifierScore, MergedMoments
from utils.models.layers import bake
from utils.zoo import load_gan, load_logit

SPLITS = 10  # of the classifier score
TRACE = ("logit_mean", "squared_norm", "acceptance")
Block = dict[str, Tensor]  # `features <steps>` (b, d), `probabilities <steps>` (b, k), `trace <steps>` (3,)


def block_seed(seed: int, block: int) -> int:
    """The seed of one block; of all pairs of whole numbers, unlikely to be the same for any two."""
    return int(np.random.SeedSequence([seed, block]).generate_state(1)[0])


def check(job: Job, block_size: int) -> None:
    """Raise a ValueError that names a setting out of range."""
    if job.n < 2:
        raise ValueError(f"n={job.n} must be at least 2: a covariance needs two samples")
    if block_size < 2:
        raise ValueError(f"block_size={block_size} must be at least 2")
    if not job.marks or min(job.marks) < 0:
        raise ValueError(f"steps={list(job.marks)} must be one or more numbers, each 0 or more")
    if not job.step_size > 0:
        raise ValueError(f"step_size={job.step_size} must be positive")
    if job.seed < 0:
        raise ValueError(f"seed={job.seed} must be 0 or more")


def open_folder(folder: Path, settings: dict, first: bool) -> None:
    """Note the settings of the blocks in `folder`, or check that those which lie there had the same.

    Raises:
        ValueError: they had other settings.
    """
    path = folder / "settings.json"
    text = json.dumps(settings, indent=1) + "\n"
    if path.exists():
        stored, wanted = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        changed = sorted(k for k in stored | wanted if stored.get(k) != wanted.get(k))
        if changed:
            raise ValueError(
                f"the blocks in {folder} were made with other settings of {changed}; delete that folder, "
                "or give another one as --folder"
            )
    elif first:
        write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def make_block(G: nn.Module, logit: nn.Module, extractor: Extractor, job: Job, precision: str) -> Block:
    """Run the chains of one block and extract their images' features, at each mark."""
    on_cpu = extractor.device.type == "cpu"
    chunk_size = 100 if on_cpu else 500
    images, trace = run_chains(G, logit, job, chunk_size, precision, progress=False)
    block = {}
    for row in trace:
        steps = row["n_steps"]
        features, probabilities = extractor.extract(images[steps], batch_size=32 if on_cpu else 256)
        block[f"features {steps}"] = features
        if probabilities is not None:
            block[f"probabilities {steps}"] = probabilities
        block[f"trace {steps}"] = torch.tensor([row[key] for key in TRACE], dtype=torch.float64)
    return block


def read_block(path: Path, job: Job) -> Block | None:
    """A finished block of `job.n` chains; None if there is none, or a damaged or a shorter one."""
    if not path.exists():
        return None
    try:
        block = load_file(path)
        whole = all(len(block[f"features {steps}"]) == job.n for steps in job.marks)
    except (OSError, SafetensorError, KeyError) as error:
        warnings.warn(f"block {path} is damaged ({error!r}); making it again", stacklevel=2)
        return None
    return block if whole else None


@torch.no_grad()
def count_classes(G: nn.Module, extractor: Extractor) -> int:
    """Number of classes of the extractor's posteriors; 0 where it gives none."""
    z = torch.zeros(1, G.latent_dim, device=extractor.device)
    _, probabilities = extractor.extract(to_uint8(G(z)))
    return 0 if probabilities is None else probabilities.shape[1]


def make_metrics(
    job: Job, extractor: Extractor, classes: int, block_size: int, reference: Reference
) -> dict[str, Metric]:
    """Empty metrics for each mark; `classes` is 0 where the extractor gives no posteriors."""
    blocks = job.n // block_size + (job.n % block_size >= 2)  # with the two chains that a distance needs
    metrics: dict[str, Metric] = {}
    for steps in job.marks:
        metrics[f"moments {steps}"] = MergedMoments(extractor.feature_dim)
        metrics |= {f"{key} {steps}": Mean() for key in TRACE}
        if reference.features is not None and blocks >= 2:
            metrics[f"kernel {steps}"] = MergedMoments(1)  # one value a block
        if classes and job.n >= SPLITS:
            metrics[f"score {steps}"] = MergedClassifierScore(job.n, classes, SPLITS)
    return metrics


def update(metrics: dict[str, Metric], block: Block, job: Job, first: int, reference: Reference) -> None:
    """Add one block, whose first chain is number `first` of all, to this worker's metrics."""
    for steps in job.marks:
        features = block[f"features {steps}"]
        metrics[f"moments {steps}"].update(features)
        if f"kernel {steps}" in metrics and len(features) >= 2:
            value = squared_mmd(reference.features.double(), features.double())
            metrics[f"kernel {steps}"].update(value.view(1, 1))
        for key, value in zip(TRACE, block[f"trace {steps}"], strict=True):
            metrics[f"{key} {steps}"].update(value, weight=len(features))
        if f"score {steps}" in metrics:
            metrics[f"score {steps}"].update(block[f"probabilities {steps}"], first)


def merge(metrics: dict[str, Metric]) -> dict:
    """The values of all workers' metrics together, by name."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        return sync_and_compute_collection(metrics)
    return {name: metric.compute() for name, metric in metrics.items()}


def report(values: dict, job: Job, extractor: Extractor, reference: Reference) -> list[dict]:
    """One row for each mark, as `metrics.images.evaluate_features` gives them."""
    rows = []
    for steps in job.marks:
        moments = values[f"moments {steps}"]
        row = {
            "n_steps": steps,
            "extractor": extractor.name,
            "n": moments.count,
            "data": reference.data,
            "split": reference.split,
            "n_reference": reference.moments.count,
            "frechet_distance": frechet_distance(reference.moments, moments),
        }
        if kernel := values.get(f"kernel {steps}"):
            error = (kernel.cov.item() / kernel.count) ** 0.5
            row |= {"kernel_distance": kernel.mean.item(), "kernel_distance_error": error}
        if score := values.get(f"score {steps}"):
            row |= {"classifier_score": score[0], "classifier_score_std": score[1]}
        row |= {key: values[f"{key} {steps}"].item() for key in TRACE}
        rows.append(row)
    return rows


def evaluate(
    G: nn.Module,
    logit: nn.Module,
    job: Job,
    extractor: Extractor,
    reference: Reference,
    folder: Path,
    *,
    block_size: int = 500,
    precision: str = "bfloat16",
    origin: dict | None = None,
    progress: bool = True,
) -> list[dict]:
    """Sample `job.n` chains and measure them; every process of torch.distributed calls this together.

    Args:
        G, logit: frozen networks, on the device of the extractor.
        job: sampler, step size, marks (numbers of steps at which images are measured), n and seed.
        extractor: of the features.
        reference: the real images' statistics; the kernel distance is measured where it holds features.
        folder: for the finished blocks; each worker may have its own, or all the same.
        block_size: chains of a block. It belongs to the protocol: another one gives other samples.
        precision: of the chains' energy, "bfloat16" or "float32"; MALA always takes float32.
        origin: what else makes these blocks (names and sha256 of checkpoints); kept and compared.
        progress: show a bar in the first worker.

    Returns:
        One dict for each mark: Fréchet distance; kernel distance, the mean over blocks with its standard
        error, from two blocks up; classifier score from 10 chains up; means of the chains' trace.

    Raises:
        ValueError: a setting is out of range, or `folder` holds blocks of other settings.
    """
    check(job, block_size)
    rank, workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    settings = {k: v for k, v in asdict(job).items() if k != "n"} | {
        "block_size": block_size,
        "precision": "float32" if job.sampler == "mala" else precision,
        "extractor": [extractor.name, extractor.weights],
        **(origin or {}),
    }
    open_folder(folder, settings, first=rank == 0)
    starts = range(0, job.n, block_size)
    mine = range(rank, len(starts), workers)
    metrics = make_metrics(job, extractor, count_classes(G, extractor), block_size, reference)
    for k in tqdm(mine, desc=f"worker 1 of {workers}", unit="block", disable=not progress or rank > 0):
        size = min(block_size, job.n - starts[k])
        part = replace(job, n=size, seed=block_seed(job.seed, k))
        path = folder / f"block-{k:05d}.safetensors"
        block = read_block(path, part)
        if block is None:
            block = make_block(G, logit, extractor, part, precision)
            write_atomically(path, lambda p, block=block: save_file(block, p))
        update(metrics, block, job, starts[k], reference)
    return report(merge(metrics), job, extractor, reference)


def pick_worker_device() -> torch.device:
    """`pick_device()`; on a machine with several GPUs worker r of the machine takes GPU r."""
    device = pick_device()
    if device.type == "cuda" and device.index is None:
        index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device


def run(args: argparse.Namespace) -> list[dict]:
    """Load what the command line names, evaluate, and let the first worker write and print the result."""
    started = time.perf_counter()
    device = pick_worker_device()
    marks = tuple(sorted(set(args.steps)))
    job = Job(
        "evaluate", args.logit, True, args.sampler, args.step_size, marks, args.n, args.seed,
        (args.extractor,), args.temperature,
    )  # fmt: skip
    check(job, args.block_size)
    data = args.gan.split("-")[0]
    logits = args.logits or f"{data}-logits"
    G, D = load_gan(args.gan, device)
    logit = load_logit(args.logit, D, name=logits)
    extractor = get_extractor(args.extractor, device)
    split = args.split or ("train" if args.extractor == CLASSIFIER else "test")
    reference = load_reference(extractor, split, data)
    origin = {name: [name, read_card(name)["sha256"]] for name in (args.gan, logits)}
    steps = "-".join(map(str, marks))
    default = f"{args.gan}-{args.logit}-{args.sampler}-{args.step_size:g}-steps{steps}-seed{args.seed}"
    folder = args.folder or RUNS / "evaluate" / f"{default}-{extractor.slug}"
    rows = evaluate(
        bake(G), logit, job, extractor, reference, folder, block_size=args.block_size,
        precision=args.precision, origin=origin,
    )  # fmt: skip
    if dist.is_initialized() and dist.get_rank() > 0:
        return rows
    protocol = asdict(job) | {"gan": args.gan, "logits": logits, "checkpoints": origin}
    protocol |= {"block_size": args.block_size, "precision": args.precision, "block_seeds": "(seed, block)"}
    protocol |= {"extractor": extractor.name, "extractor_weights": extractor.weights, "data": data}
    protocol |= {"split": split, "workers": dist.get_world_size() if dist.is_initialized() else 1}
    protocol |= {"device": device.type, "threads": torch.get_num_threads(), "torch": torch.__version__}
    protocol |= {"seconds": round(time.perf_counter() - started, 1)}  # of this call: not of resumed blocks
    output = args.output or folder / f"result-n{args.n}.json"
    text = json.dumps({"protocol": protocol, "rows": rows}, indent=1) + "\n"
    write_atomically(output, lambda p: p.write_text(text, encoding="utf-8"))
    for row in rows:
        print(f"{row['n_steps']:4d} steps: {format_report(row)}")
    print(f"written: {output}")
    return rows


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="evaluate"
    )
    parser.add_argument("--gan", default="cifar10-gan", help="checkpoint; its first word names the data set")
    parser.add_argument("--logits", help="checkpoint of the logits (default: <data set>-logits)")
    parser.add_argument("--logit", default="continued-r1", help="which of them")
    parser.add_argument("--sampler", choices=("ula", "mala"), default="ula")
    parser.add_argument("--step-size", type=float, default=0.1)
    parser.add_argument("--steps", type=int, nargs="+", default=[25], help="0 is the generator alone")
    parser.add_argument("--temperature", type=float, default=1.0)
    # torchrun on Python 3.11 stumbles over `--n`, which abbreviates options of its own: it needs `-n`
    parser.add_argument("-n", "--n", type=int, default=50_000, help="number of chains; `-n` under torchrun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block-size", type=int, default=500)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--extractor", choices=EXTRACTORS, default=CLASSIFIER)
    parser.add_argument("--split", choices=("train", "test"), help="of the real images")
    parser.add_argument("--folder", type=Path, help="of the finished blocks (default: below data/runs)")
    parser.add_argument("--output", type=Path, help="of the result (default: in that folder)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed:
        dist.init_process_group("gloo")  # also beside GPUs: what is sent are float64 states on the CPU
    try:
        run(args)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"evaluate: {error}")
    finally:
        if distributed:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
