"""How far DDLS improves the CIFAR-10 generator: `python -m data.recipes.cifar10_study`.

Every job runs one set of chains and scores their images at several numbers of steps. Jobs are
independent and each leaves one small file below `data/studies/cifar10/`, so an interrupted study goes
on where it was, and `--worker 0/2` with `--worker 1/2` shares it between two processes.

Three parts: `logit` (which d), `step` (which step size), both scored by the CIFAR-10 classifier, and
`final` (the settings they chose), scored also by an ImageNet network that had no part in choosing.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from utils.checkpoints import write_atomically
from utils.config import DATA, pick_device
from utils.energy import latent_energy, standard_normal
from utils.images import to_uint8
from utils.metrics.extractors import get_extractor
from utils.metrics.images import evaluate_images, load_reference
from utils.models.layers import bake
from utils.samplers import State, mala, sample, ula
from utils.zoo import load_gan, load_logit

STUDY = DATA / "studies" / "cifar10"
CLASSIFIER, IMAGENET = "cifar10-classifier", "efficientnet-lite0"
SPLITS = {CLASSIFIER: "train", IMAGENET: "test"}  # of the reference: 50,000 and 10,000 real images


@dataclass(frozen=True)
class Job:
    """One set of chains. `marks` are the numbers of steps at which the images are scored."""

    part: str
    logit: str  # a kind of `load_logit`
    calibrated: bool
    sampler: str  # "ula" or "mala"
    step_size: float
    marks: tuple[int, ...]
    n: int
    seed: int
    extractors: tuple[str, ...] = (CLASSIFIER,)
    temperature: float = 1.0

    @property
    def path(self) -> Path:
        scaling = "platt" if self.calibrated else "plain"
        name = (
            f"{self.part}-{self.logit}-{scaling}-{self.sampler}-{self.step_size:g}-n{self.n}-seed{self.seed}"
        )
        return STUDY / f"{name}.json"


# The settings that parts one and two chose, by the classifier alone.
CHOSEN_LOGIT, CHOSEN_STEP_SIZE = "continued-r1", 0.1
SMALL = {"n": 2000, "seed": 0, "sampler": "ula"}

JOBS = [
    *[
        Job("logit", kind, calibrated, step_size=0.1, marks=(0, 10, 20, 40), **SMALL)
        for kind, calibrated in [
            ("raw", True),
            ("head", True),
            ("continued", True),
            ("continued-r1", True),
            ("raw", False),
        ]
    ],
    *[
        Job("step", "raw", True, step_size=step_size, marks=(0, 10, 20, 40), **SMALL)
        for step_size in (0.01, 0.03, 0.2, 0.4)
    ],
    *[
        Job(
            "final", CHOSEN_LOGIT, True, "ula", CHOSEN_STEP_SIZE, (0, 10, 25, 50), 10_000, seed,
            (CLASSIFIER, IMAGENET),
        )
        for seed in range(3)
    ],
]  # fmt: skip


def run_chains(
    G: nn.Module,
    logit: nn.Module,
    job: Job,
    chunk_size: int = 100,
    precision: str = "bfloat16",
    progress: bool = True,
) -> tuple[dict[int, Tensor], list[dict]]:
    """Images (n, 3, s, s) uint8 at each mark, and the trace of the chains' means there.

    The starts depend on the seed alone, so that jobs of one seed are compared on the same latents.
    """
    device = next(G.parameters()).device
    start = torch.randn(job.n, G.latent_dim, generator=torch.Generator().manual_seed(1000 + job.seed))
    images, trace = {}, []

    @torch.no_grad()
    def keep(step: int, state: State) -> None:
        if step in job.marks:
            images[step] = torch.cat([to_uint8(G(z)).cpu() for z in state.z.split(500)])
            trace.append(
                {
                    "n_steps": step,
                    "energy": state.energy.mean().item(),
                    "logit_mean": (-state.energy - standard_normal(state.z)).mean().item(),
                    "squared_norm": state.z.square().sum(1).mean().item(),
                }
            )

    kernel = {"ula": ula, "mala": mala}[job.sampler](job.step_size, job.temperature)
    energy = latent_energy(G, logit, precision="float32" if job.sampler == "mala" else precision)
    generator = torch.Generator().manual_seed(job.seed)
    chain = sample(
        energy, start.to(device), kernel, max(job.marks), generator,
        callback=keep, chunk_size=chunk_size, progress=progress,
    )  # fmt: skip
    for row in trace:
        row["acceptance"] = chain.acceptance.mean().item()
    return images, trace


def run_job(job: Job, device: torch.device) -> list[dict]:
    """Run and score one job; one row for each mark."""
    G, D = load_gan(device=device)
    logit = load_logit(job.logit, D, calibrated=job.calibrated)
    images, rows = run_chains(bake(G), logit, job)
    settings = {k: v for k, v in asdict(job).items() if k not in ("marks", "extractors")}
    measures = {}
    for name in job.extractors:
        extractor = get_extractor(name, device)
        measures[name] = extractor, load_reference(extractor, SPLITS[name])
    for row in rows:
        row.update(settings)
        ends = row["n_steps"] in (job.marks[0], job.marks[-1])
        for name in job.extractors if ends else (CLASSIFIER,):  # the ImageNet network is slow
            row[name] = evaluate_images(images[row["n_steps"]], *measures[name])
    return rows


def read_rows(folder: Path) -> list[dict]:
    """The rows of all jobs stored in a folder."""
    return [row for path in sorted(folder.glob("*.json")) for row in json.loads(path.read_text())]


def load_study() -> list[dict]:
    """All stored rows: one for each job and number of steps."""
    return read_rows(STUDY)


def command_line(
    title: str,
    jobs: Sequence[Job],
    run_job: Callable[[Job, torch.device], list[dict]],
    arguments: list[str] | None,
) -> None:
    """Run the jobs that are asked for and not stored yet; each is written when it is done."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--part", choices=sorted({job.part for job in jobs}), nargs="*")
    parser.add_argument(
        "--worker", default="0/1", help="i/k: this process takes every k-th job from the i-th"
    )
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    index, count = map(int, args.worker.split("/"))
    wanted = [job for job in jobs if not args.part or job.part in args.part]
    for job in tqdm(wanted[index::count], unit="job"):
        if not job.path.exists():
            text = json.dumps(run_job(job, pick_device()), indent=1) + "\n"
            write_atomically(job.path, lambda path, text=text: path.write_text(text))


def main(arguments: list[str] | None = None) -> None:
    command_line(__doc__.splitlines()[0], JOBS, run_job, arguments)


if __name__ == "__main__":
    main()
