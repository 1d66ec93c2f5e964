"""One loop that trains every GAN of the course: alternate updates, EMA, progress, resume.

The loop knows no data set: it takes `draw_real(n, generator) -> (n, ...)`. Everything random comes
from one `torch.Generator`, whose state is saved, so an interrupted run ends as an unbroken one would.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
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

    uint8 is scaled by `images.to_unit`; floats must lie in [-1, 1] already, or ValueError. With `mirror` each
    image is flipped left to right with probability 1/2.
    """
    images = images.to(device)
    if images.dtype == torch.uint8:
        scale = to_unit
    elif images.is_floating_point() and -1 <= images.min() < 0 <= images.max() <= 1:
        scale = Tensor.float
    else:
        spread = f"{images.dtype} from {images.min():.3g} to {images.max():.3g}"
        raise ValueError(f"images are {spread}; give uint8, or floats that fill [-1, 1]")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        home = generator.device
        picked = images[torch.randint(len(images), (n,), generator=generator, device=home)]
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
    """Two players and their steps, and what is saved so that a run goes on as if nothing had happened."""

    def __init__(self, G: nn.Module, D: nn.Module, draw_real: DrawReal, config: TrainConfig):
        self.G, self.D, self.draw_real, self.config = G, D, draw_real, config
        self.G_ema = copy_network(G).requires_grad_(False)
        self.device = next(G.parameters()).device
        self.graph = config.compile and self.device.type == "cuda"
        if self.graph and config.r1_weight and config.r1_every > 1:
            raise ValueError("compile=True records one step for all on a GPU; use r1_every=1")
        self.forward_g = torch.compile(G) if config.compile and not self.graph else G
        self.loss = ebgan(config.margin) if config.loss == "ebgan" else LOSSES[config.loss]
        self.autocast = torch.autocast(
            self.device.type, torch.bfloat16, config.precision == "bfloat16", cache_enabled=not self.graph
        )
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

    def set_learning_rates(self) -> None:
        factor = learning_rate_factor(self.step, self.config)
        for optimiser, rate in ((self.optim_g, self.config.lr_g), (self.optim_d, self.config.lr_d)):
            group = optimiser.param_groups[0]
            if self.graph:  # in place: the graph reads this tensor
                group["lr"] = torch.as_tensor(group["lr"], device=self.device).fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def step_players(self) -> dict[str, Tensor]:
        """One generator step and what belongs to it; losses and mean logits."""
        if self.config.share_fakes:
            row = self._step_both()
        else:
            for _ in range(self.config.d_steps):
                row = self._step_discriminator()
            row |= self._step_generator()
        return {name: value.detach() for name, value in row.items()}

    def _step_discriminator(self) -> dict[str, Tensor]:
        config = self.config
        real = self.draw_real(config.batch_size, self.generator)
        with self.autocast:
            with torch.no_grad():
                fake = self.forward_g(self._draw_latent(len(real))).to(real.dtype)
            # one pass over both: one power iteration of spectral norm, one set of kernels
            outputs = self.D(augment(torch.cat([real, fake]), config.augment, self.generator)).float()
        row = self._judged(outputs, len(real))
        total = row["loss_d"]
        if config.r1_weight and self.step % config.r1_every == 0:
            total = total + config.r1_weight * config.r1_every * r1_penalty(self.D, real)
        if config.gradient_penalty_weight:
            penalty = gradient_penalty(self.D, real, fake, self.generator)
            total = total + config.gradient_penalty_weight * penalty
        _descend(self.optim_d, total)
        if config.weight_clip:
            for weight in self.D.parameters():
                weight.data.clamp_(-config.weight_clip, config.weight_clip)
        return row

    def _step_generator(self) -> dict[str, Tensor]:
        config = self.config
        self.D.requires_grad_(False)  # only G's gradient is wanted
        with self.autocast:
            fake = self.forward_g(self._draw_latent(config.batch_size))
            outputs = self.D(augment(fake, config.augment, self.generator)).float()
        value = total = self.loss.generator(outputs)
        if config.pulling_away_weight:
            total = total + config.pulling_away_weight * pulling_away(self.D.features(fake).float())
        _descend(self.optim_g, total)
        self.D.requires_grad_(True)
        return {"loss_g": value}

    def _step_both(self) -> dict[str, Tensor]:
        """As the two steps in turn, but the frozen part of D sees one batch of fakes once for both."""
        D, policies = self.D.requires_grad_(False), self.config.augment
        real = self.draw_real(self.config.batch_size, self.generator)
        with self.autocast:
            fake = self.forward_g(self._draw_latent(len(real))).to(real.dtype)
            with torch.no_grad():
                real_maps = D.project(augment(real, policies, self.generator))
            fake_maps = D.project(augment(fake, policies, self.generator))  # with a way back to G
            D.requires_grad_(True)
            both = [torch.cat([r, f.detach()]) for r, f in zip(real_maps, fake_maps, strict=True)]
            outputs = D.judge(both).float()
        row = self._judged(outputs, len(real))
        _descend(self.optim_d, row["loss_d"])
        D.requires_grad_(False)
        with self.autocast:
            row["loss_g"] = self.loss.generator(D.judge(fake_maps).float())
        _descend(self.optim_g, row["loss_g"])
        D.requires_grad_(True)
        return row

    def _draw_latent(self, n: int) -> Tensor:
        return torch.randn(n, self.G.latent_dim, generator=self.generator, device=self.device)

    def _judged(self, outputs: Tensor, n: int) -> dict[str, Tensor]:
        """D's loss and mean logits, from its outputs on n real and n fake data: a last batch can be short."""
        if outputs.shape[:1] != (2 * n,):
            raise ValueError(f"D returned shape {tuple(outputs.shape)} for a batch of {2 * n} rows")
        real, fake = outputs[:n], outputs[n:]
        loss = self.loss.discriminator(real, fake)
        return {"loss_d": loss, "logit_real": real.mean(), "logit_fake": fake.mean()}

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


def _descend(optimiser: torch.optim.Optimizer, value: Tensor) -> None:
    optimiser.zero_grad()
    value.backward()
    optimiser.step()


def _recorded(step: Callable[[], dict[str, Tensor]], generator: torch.Generator) -> Iterator:
    """`step` again and again: three plain calls, then replays of a CUDA graph, which cost no launches."""
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    for _ in range(3):
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            row = step()
        torch.cuda.current_stream().wait_stream(side)
        yield row
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        row = step()
    while True:
        graph.replay()
        yield row


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

    G maps z (n, G.latent_dim) to data (n, ...), D those to logits (n,), and `draw_real` gives real ones on
    the device of the networks. The state lies in `run_dir`, from which an interrupted run goes on; None keeps
    nothing. Whenever it is saved, `on_save` gets (step, averaged generator). `progress` shows a bar.

    Raises ValueError for a state of other settings, and FloatingPointError where a loss is not finite.
    """
    run = _Run(G, D, draw_real, config)
    state = run_dir / "state.pt" if run_dir else None
    if state and state.exists():
        run.load(state)
    G.train()
    D.train()
    next_row = _recorded(run.step_players, run.generator).__next__ if run.graph else run.step_players
    started = time.perf_counter() - run.seconds
    shown = {"disable": not progress, "unit": "step", "mininterval": 5, "file": sys.stdout}
    bar = tqdm(range(run.step, config.n_steps), total=config.n_steps, initial=run.step, **shown)
    for _ in bar:
        run.set_learning_rates()
        row = next_row()
        run.step += 1
        # a short memory at first, else the random start would stay in the average for long
        update_ema(run.G_ema, G, min(config.ema_decay, (1 + run.step) / (10 + run.step)))
        last = run.step == config.n_steps
        if run.step % config.log_every == 0 or last:
            row = {"step": run.step, **{k: v.item() for k, v in row.items()}}
            if not all(map(math.isfinite, row.values())):
                raise FloatingPointError(f"step {run.step}: a loss is infinite ({row}); lower lr_g and lr_d")
            run.seconds = time.perf_counter() - started
            run.history.append(row | {"seconds": round(run.seconds, 1)})
            bar.set_postfix(D=f"{row['loss_d']:.3f}", G=f"{row['loss_g']:.3f}")
        if run.step % config.save_every == 0 or last:
            if state:
                run.save(state)
            if on_save:
                on_save(run.step, run.G_ema)
    recompute_batch_norm(run.G_ema, config.norm_batches)
    return TrainResult(G, run.G_ema, D, run.history, run.seconds)
