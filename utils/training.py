"""One loop that trains every GAN of the course: alternate updates, EMA, progress, resume.

The loop knows no data set: it takes `draw_real(n, generator) -> (n, ...)`. Everything random comes
from one `torch.Generator`, whose state is saved, so an interrupted run ends as an unbroken one would.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from utils.augmentation import POLICIES, augment
from utils.checkpoints import write_atomically
from utils.images import to_unit
from utils.losses import LOSSES, ebgan, gradient_penalty, pulling_away, r1_penalty
from utils.models.layers import copy_network

DrawReal = Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run; the units of `n_steps` and of all intervals are generator steps."""

    loss: str = "non_saturating"
    n_steps: int = 20_000
    batch_size: int = 64
    d_steps: int = 1  # discriminator updates per generator update
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    decay_from: float = 0.5  # the learning rates fall linearly to 0 from this share of the run
    r1_weight: float = 0.0
    r1_every: int = 16  # lazy regularisation: the penalty is taken every so often, times r1_every
    gradient_penalty_weight: float = 0.0  # of WGAN-GP; 10 in its paper
    weight_clip: float | None = None  # clamp D's weights to [-c, c], as in the first WGAN
    margin: float = 10.0  # of the loss "ebgan", in which D returns an energy
    pulling_away_weight: float = 0.0  # in G's loss, on D.features of its batch; 0.1 in EBGAN's paper
    ema_decay: float = 0.999
    norm_batches: int = 100  # batches of 256 that refit the averaged generator's batch norms in the end
    precision: str = "float32"  # or "bfloat16": autocast, about twice as fast on recent CPUs and GPUs
    compile: bool = False  # on a CPU, compile G: a third faster; with CUDA, record the step as a graph
    augment: tuple[str, ...] = ()  # changes made to all that D sees: "colour", "translation"
    share_fakes: bool = False  # both players learn from one batch of fakes; D must have `project` and `judge`
    seed: int = 0
    log_every: int = 100
    save_every: int = 1000

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r} is unknown; choose one of {', '.join(LOSSES)}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r} is unknown; use 'float32' or 'bfloat16'")
        for name in ("n_steps", "batch_size", "d_steps", "norm_batches", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if unknown := [name for name in self.augment if name not in POLICIES]:
            raise ValueError(f"augment={self.augment} has {unknown}; choose among {', '.join(POLICIES)}")
        penalties = (self.r1_weight, self.gradient_penalty_weight, self.pulling_away_weight)
        if self.share_fakes and (self.d_steps > 1 or any(penalties) or self.weight_clip):
            raise ValueError("share_fakes=True allows one discriminator step and no penalties")


@dataclass
class TrainResult:
    """`G_ema` is the generator to use; `history` holds one dict of floats for each logged step."""

    G: nn.Module
    G_ema: nn.Module
    D: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def draw_from(images: Tensor, device: torch.device | str = "cpu", mirror: bool = False) -> DrawReal:
    """A `draw_real` that picks images (n, c, h, w) with replacement, as float32 in [-1, 1].

    uint8 is scaled by `images.to_unit`; floats must lie in [-1, 1] already. With `mirror` each image is
    flipped left to right with probability 1/2.
    """
    images = images.to(device)
    fills = images.is_floating_point() and -1 <= images.min() < 0 <= images.max() <= 1
    scale = to_unit if images.dtype == torch.uint8 else Tensor.float
    if scale is Tensor.float and not fills:
        spread = f"{images.dtype} from {images.min():.3g} to {images.max():.3g}"
        raise ValueError(f"images are {spread}; give uint8, or floats that fill [-1, 1]")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        home = generator.device
        picked = images[torch.randint(len(images), (n,), generator=generator, device=home).to(device)]
        if mirror:
            flip = torch.rand(n, 1, 1, 1, generator=generator, device=home).to(device) < 0.5
            picked = torch.where(flip, picked.flip(3), picked)
        return scale(picked)

    return draw


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """1 until `decay_from`, then linearly down to 0 at the end of the run."""
    start = config.decay_from * config.n_steps
    return 1.0 if step < start else (config.n_steps - step) / (config.n_steps - start)


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * module for parameters; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1.0 - decay)
    for a, b in zip(average.buffers(), module.buffers(), strict=True):
        a.copy_(b)


def recompute_batch_norm(G: nn.Module, n_batches: int = 100, batch_size: int = 256, seed: int = 0) -> None:
    """Refit G's running means and variances to its present (averaged) weights, by a plain average."""
    generator, device = torch.Generator().manual_seed(seed), next(G.parameters()).device
    draws = (torch.randn(batch_size, G.latent_dim, generator=generator) for _ in range(n_batches))
    update_bn(draws, G, device)
    G.eval()


class _Run:
    """State of a run: what has to be saved so that it can go on as if nothing had happened."""

    def __init__(self, G: nn.Module, D: nn.Module, config: TrainConfig):
        self.G, self.D, self.config = G, D, config
        self.G_ema = copy_network(G).requires_grad_(False)
        self.device = next(G.parameters()).device
        self.graph = config.compile and self.device.type == "cuda"
        if self.graph and config.r1_weight and config.r1_every > 1:
            raise ValueError("compile=True records one step for all on a GPU; use r1_every=1")
        D.requires_grad_(True)  # an interrupted call may have left it off
        trained = [p for p in D.parameters() if p.requires_grad]  # a projected D is frozen in part
        options = {"betas": config.betas, "capturable": self.graph}
        self.optim_g = torch.optim.Adam(G.parameters(), config.lr_g, **options)
        self.optim_d = torch.optim.Adam(trained, config.lr_d, **options)
        # one device for all that a step does: a graph can record no copy of random numbers
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []

    def set_learning_rates(self, factor: float) -> None:
        for optimiser, rate in ((self.optim_g, self.config.lr_g), (self.optim_d, self.config.lr_d)):
            group = optimiser.param_groups[0]
            if not self.graph:
                group["lr"] = rate * factor
            elif isinstance(group["lr"], Tensor) and group["lr"].device.type == "cuda":
                group["lr"].fill_(rate * factor)  # in place: the graph reads this tensor
            else:
                group["lr"] = torch.tensor(rate * factor, device=self.device)

    def _parts(self) -> dict:
        return {name: getattr(self, name) for name in ("G", "D", "G_ema", "optim_g", "optim_d")}

    def save(self, path: Path) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"generator": self.generator.get_state(), "step": self.step, "seconds": self.seconds}
        state |= {"history": self.history, "config": asdict(self.config)}

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:  # torch's own writer reports a full disk as a RuntimeError
                torch.save(state, file)

        write_atomically(path, write)

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = type(error).__name__  # torch's own text advises loading without weights_only
            raise ValueError(f"{path} cannot be read ({reason}); delete it to start the run again") from error
        saved = asdict(TrainConfig()) | state["config"]  # a setting younger than the file had its default
        free = ("compile", "save_every")  # change nothing in the result
        changed = [k for k, v in asdict(self.config).items() if saved[k] != v and k not in free]
        if changed:
            raise ValueError(f"{path} was made with other settings of {changed}; use them or another folder")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        if state["generator"].shape != self.generator.get_state().shape:
            raise ValueError(f"{path} was made on another kind of device than {self.device}; go on there")
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    lines = [",".join(map(str, row)) for row in (history[0], *(row.values() for row in history))]
    write_atomically(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))


def _detached(**values: Tensor) -> dict[str, Tensor]:
    """A row of the history, without the graph of the step that made it."""
    return {name: value.detach() for name, value in values.items()}


def _recorded(step: Callable[[], dict[str, Tensor]], generator: torch.Generator) -> Callable:
    """`step` as a CUDA graph: three plain calls, one recording, then replays that cost no launches."""
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    plain_calls, row = 3, {}

    def call() -> dict[str, Tensor]:
        nonlocal plain_calls, row
        if plain_calls:
            plain_calls -= 1
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                result = step()
            torch.cuda.current_stream().wait_stream(side)
            return result
        if not row:
            graph.register_generator_state(generator)
            with torch.cuda.graph(graph):
                row = step()
        graph.replay()
        return dict(row)

    return call


def train_gan(
    G: nn.Module,
    D: nn.Module,
    draw_real: DrawReal,
    config: TrainConfig,
    run_dir: Path | None = None,
    on_save: Callable[[int, nn.Module], None] | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train G and D in place and return them with the averaged generator.

    Args:
        G: maps z (n, G.latent_dim) to data (n, ...).
        D: maps data (n, ...) to logits (n,).
        draw_real: gives a batch of real data on the device of the networks.
        config: the settings.
        run_dir: folder for `state.pt` (resume) and `metrics.csv`; None keeps nothing on disk.
        on_save: called with (step, averaged generator) whenever the state is saved: sample grids.
        progress: show a bar with losses and the time that is left.
    """
    device = next(G.parameters()).device
    run = _Run(G, D, config)
    state_path = run_dir / "state.pt" if run_dir else None
    if state_path and state_path.exists():
        run.load(state_path)

    loss = ebgan(config.margin) if config.loss == "ebgan" else LOSSES[config.loss]
    forward_g = torch.compile(G) if config.compile and not run.graph else G
    G.train()
    D.train()
    shown = {"disable": not progress, "unit": "step", "mininterval": 5, "file": sys.stdout}
    bar = tqdm(total=config.n_steps, initial=run.step, **shown)
    started = time.perf_counter() - run.seconds

    def autocast() -> torch.autocast:
        enabled = config.precision == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=not run.graph)

    def descend(optimiser: torch.optim.Optimizer, value: Tensor) -> None:
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    def draw_latent(n: int) -> Tensor:
        return torch.randn(n, G.latent_dim, generator=run.generator, device=device)

    def split(outputs: Tensor, n_real: int) -> tuple[Tensor, Tensor]:
        """Real and fake, as many of each as came: a loader's last batch can be short."""
        if outputs.shape[:1] != (2 * n_real,):
            raise ValueError(f"D returned shape {tuple(outputs.shape)} for a batch of {2 * n_real} rows")
        return outputs[:n_real], outputs[n_real:]

    def step_discriminator() -> dict[str, Tensor]:
        real = draw_real(config.batch_size, run.generator)
        with autocast():
            with torch.no_grad():
                fake = forward_g(draw_latent(len(real)))
            # one pass over both: one power iteration of spectral norm, one set of kernels
            both = augment(torch.cat([real, fake.to(real.dtype)]), config.augment, run.generator)
            logits = D(both).float()
        real_logits, fake_logits = split(logits, len(real))
        value = loss.discriminator(real_logits, fake_logits)
        total = value
        if config.r1_weight and run.step % config.r1_every == 0:
            total = total + config.r1_weight * config.r1_every * r1_penalty(D, real)
        if config.gradient_penalty_weight:
            penalty = gradient_penalty(D, real, fake.to(real.dtype), run.generator)
            total = total + config.gradient_penalty_weight * penalty
        descend(run.optim_d, total)
        if config.weight_clip:
            for weight in D.parameters():
                weight.data.clamp_(-config.weight_clip, config.weight_clip)
        return _detached(loss_d=value, logit_real=real_logits.mean(), logit_fake=fake_logits.mean())

    def step_generator() -> dict[str, Tensor]:
        D.requires_grad_(False)  # only G's gradient is wanted
        with autocast():
            fake = forward_g(draw_latent(config.batch_size))
            fake_logits = D(augment(fake, config.augment, run.generator)).float()
        value = total = loss.generator(fake_logits)
        if config.pulling_away_weight:
            total = total + config.pulling_away_weight * pulling_away(D.features(fake).float())
        descend(run.optim_g, total)
        D.requires_grad_(True)
        return _detached(loss_g=value)

    def step_both() -> dict[str, Tensor]:
        """As the two steps in turn, but the frozen part of D sees one batch of fakes once for both."""
        D.requires_grad_(False)
        real = draw_real(config.batch_size, run.generator)
        with autocast():
            fake = forward_g(draw_latent(len(real))).to(real.dtype)
            with torch.no_grad():
                real_maps = D.project(augment(real, config.augment, run.generator))
            fake_maps = D.project(augment(fake, config.augment, run.generator))  # with a way back to G
            D.requires_grad_(True)
            both = [torch.cat([r, f.detach()]) for r, f in zip(real_maps, fake_maps, strict=True)]
            outputs = D.judge(both).float()
        real_outputs, fake_outputs = split(outputs, len(real))
        value = loss.discriminator(real_outputs, fake_outputs)
        descend(run.optim_d, value)
        D.requires_grad_(False)
        with autocast():
            value_g = loss.generator(D.judge(fake_maps).float())
        descend(run.optim_g, value_g)
        D.requires_grad_(True)
        means = {"logit_real": real_outputs.mean(), "logit_fake": fake_outputs.mean()}
        return _detached(loss_d=value, **means, loss_g=value_g)

    def both_players() -> dict[str, Tensor]:
        if config.share_fakes:
            return step_both()
        for _ in range(config.d_steps):
            row = step_discriminator()
        return row | step_generator()

    train_step = _recorded(both_players, run.generator) if run.graph else both_players
    while run.step < config.n_steps:
        run.set_learning_rates(learning_rate_factor(run.step, config))
        row = train_step()
        run.step += 1
        # a short memory at first, else the random start would stay in the average for long
        update_ema(run.G_ema, G, min(config.ema_decay, (1 + run.step) / (10 + run.step)))
        bar.update()

        last = run.step == config.n_steps
        if run.step % config.log_every == 0 or last:
            row = {"step": run.step, **{k: v.item() for k, v in row.items()}}
            if not all(map(math.isfinite, row.values())):
                raise FloatingPointError(f"step {run.step}: a loss is infinite ({row}); lower lr_g and lr_d")
            run.seconds = time.perf_counter() - started
            run.history.append(row | {"seconds": round(run.seconds, 1)})
            bar.set_postfix(D=f"{row['loss_d']:.3f}", G=f"{row['loss_g']:.3f}")
        if run_dir and (run.step % config.save_every == 0 or last):
            run.save(state_path)
            if run.history:
                _write_history(run_dir / "metrics.csv", run.history)
        if on_save and (run.step % config.save_every == 0 or last):
            on_save(run.step, run.G_ema)
    bar.close()
    recompute_batch_norm(run.G_ema, config.norm_batches)
    return TrainResult(G, run.G_ema, D, run.history, run.seconds)
