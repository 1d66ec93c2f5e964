"""What sampling does to the image generators, and what no trick does: `python -m data.recipes.image_study`.

A job is one set of samples of one generator by one method. Two judges score it: the CIFAR-10 classifier, by
which the kind of features and the step of ULA were found, and EfficientNet-Lite2, which took part in nothing
but is a relative of Lite0, which trained G. Notebooks 10 to 13 read
the studies `image/cifar10` and `image/celeba64`. Parts:

- `final`: the generator alone, ULA with the chosen logit, several generators and seeds;
- `control`: latents scaled, z -> s z, and images whose contrast or saturation is set to the real images';
- `logit`: ULA with the other logits;  `joined`: two logits and their best sum, held out, no samples;
- `sum`: ULA with the sum of two logits;
- `step`: step sizes at equal eps N, and MALA beside ULA;
- `large`: generator, ULA and the best controls with ten times as many images;
- `floor`: training images in place of samples;
- `rival`: other methods at about the cost of ULA, three passes a gradient step (notebook 07 measures it);
- `detector`: of faces alone, the share in which `face_detector` finds one; `real`: their floor.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch import Tensor

from data.recipes.face_detector import DETECTOR, has_face
from data.recipes.study import (
    Jobs,
    chains,
    measure,
    prior_chains,
    real,
    run_jobs,
    scaled,
    ula_chains,
)
from utils.checkpoints import read_card
from utils.config import pick_device
from utils.density_ratio import describe, logistic_loss
from utils.images import load_cifar10, load_faces, to_uint8, to_unit
from utils.metrics.extractors import Extractor, get_extractor
from utils.metrics.images import Reference, evaluate_features, load_reference, precision_recall
from utils.samplers import hmc, mala
from utils.selection import (
    LatentGAN,
    Samples,
    ex2mcmc,
    generator_only,
    importance_resampling,
    iterated_resampling,
    metropolis_hastings,
)
from utils.studies import fingerprint
from utils.transport import discriminator_optimal_transport, gradient_flow
from utils.zoo import draw_samples, load_gan, load_logit

VERSION = 1  # of this file: raise it when a change alters results
JUDGES = {"cifar10": ("cifar10-classifier", "efficientnet-lite2"), "celeba64": ("efficientnet-lite2",)}
STEP_SIZE, N_STEPS, SEEDS = 0.05, 10, 3
LARGE = 10_000  # images a set, so that little of a Frechet distance is bias
FACES, N_FACES = "celeba64-gan", 1000
GANS = ("cifar10-gan", "cifar10-gan-1", "cifar10-gan-2")
NO_GUIDE = {"no guide": partial(prior_chains, step_size=STEP_SIZE, n_steps=N_STEPS)}
LONG_STEPS = {"ULA 0.2 x 3": partial(ula_chains, step_size=0.2, n_steps=3)}
SCALES = (0.6, 0.8, 1.2, 1.4, 1.6, 1.8)
RIVALS: dict[str, Callable[..., Samples]] = {
    "MALA": partial(chains, kernel=partial(mala, 0.02), n_steps=10),
    "HMC": partial(chains, kernel=partial(hmc, step_size=0.15, n_leapfrog=3), n_steps=3),
    "MH-GAN": partial(metropolis_hastings, n_steps=30),
    "i-SIR": partial(iterated_resampling, n_particles=6, n_steps=6),
    "Ex2MCMC": partial(chains, kernel=partial(ex2mcmc, step_size=0.02, n_particles=4, n_moves=1), n_steps=5),
    "DOT": partial(discriminator_optimal_transport, step_size=0.05, n_steps=10, lipschitz=1.0),
    "DG-flow, step 0.03": partial(gradient_flow, step_size=0.03, temperature=0.01, n_steps=10),
    "DG-flow, step 0.3": partial(gradient_flow, step_size=0.3, temperature=0.01, n_steps=10),
}


def contrast_matched(images: Tensor, real: Tensor) -> Tensor:
    """uint8 images with the real images' mean contrast and saturation, each about its own mean and grey."""

    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.float() / 255
        grey = x.mean(1, keepdim=True)
        middle = grey.mean((2, 3), keepdim=True)
        return middle, grey - middle, x - grey

    middle, light, colour = parts(images)
    _, real_light, real_colour = parts(real)
    factors = [
        (r.square().mean() / f.square().mean()).sqrt()
        for r, f in ((real_light, light), (real_colour, colour))
    ]
    return ((middle + factors[0] * light + factors[1] * colour).clamp(0, 1) * 255).round().to(torch.uint8)


def divergence(real: Tensor, fake: Tensor) -> float:
    """Jensen-Shannon divergence in nats that a fresh ridge classifier of features finds, 5-fold held out."""
    n = min(len(real), len(fake))
    x = torch.cat([real[:n], fake[:n]]).double()
    x = ((x - x.mean(0)) / x.std(0).clamp_min(1e-9)).numpy()
    y = [1] * n + [0] * n
    ridge = LogisticRegression(C=0.003)
    d = torch.from_numpy(cross_val_predict(ridge, x, y, cv=5, method="decision_function"))
    return math.log(2) - logistic_loss(d[:n], d[n:])


def score(images: Tensor, extractor: Extractor, reference: Reference) -> dict:
    """All measures of uint8 images (n, 3, s, s); precision, recall and divergence among equally many real."""
    features, probabilities = extractor.extract(images)
    report = evaluate_features(features, probabilities, extractor, reference)
    m = min(len(features), len(reference.features))
    precision, recall = precision_recall(reference.features[:m], features[:m])
    spread = (features.double().var(0).sum() / reference.moments.cov.trace()).item()
    found = divergence(reference.features[:m], features[:m])
    return report | {"precision": precision, "recall": recall, "spread": spread, "divergence": found}


@cache
def networks(gan: str, kind: str) -> LatentGAN:
    """Generator and logit; "a + b" is the sum of two logits, as if their features were independent."""
    device = pick_device()
    parts = [load_logit(part, gan, device) for part in kind.split(" + ")]
    logit = parts[0] if len(parts) == 1 else lambda x: sum(part(x) for part in parts)
    return LatentGAN(load_gan(gan, device), logit, chunk_size=64)


@cache
def real_images(data: str) -> Tensor:
    return (load_cifar10 if data == "cifar10" else load_faces)("train").images[:5000]


def joined(settings: dict) -> dict:
    """What held-out images say of two logits, each Platt-scaled, and of a d_1 + b d_2 + c fitted to both."""
    name, n_fit, n = settings["gan"]["checkpoint"], settings["n_fit"], settings["n"]
    G, found = load_gan(name), []
    generator = torch.Generator().manual_seed(settings["seed"])
    sets = [load_cifar10("train").images[-n_fit:], load_cifar10("test").images[:n]]
    sets = [to_unit(x) for x in sets] + [draw_samples(G, k, generator) for k in (n_fit, n)]
    for kind in settings["kinds"]:
        logit = load_logit(kind, name)
        found.append([torch.cat([logit(part).detach() for part in x.split(250)]) for x in sets])
    both = [torch.stack(pair, 1).double() for pair in zip(*found, strict=True)]  # (n, 2) of each set
    fit = LogisticRegression(C=math.inf, solver="newton-cholesky")
    fit.fit(torch.cat([both[0], both[2]]).numpy(), [1] * n_fit + [0] * n_fit)
    weights = torch.from_numpy(fit.coef_[0])
    held_out = {kind: (d[1], d[3]) for kind, d in zip(settings["kinds"], found, strict=True)}
    held_out["joined"] = tuple(x @ weights + fit.intercept_[0] for x in (both[1], both[3]))
    return {"weights": weights.tolist()} | {kind: describe(*pair) for kind, pair in held_out.items()}


def work(settings: dict) -> dict:
    """Draw and score one set of samples."""
    torch.set_flush_denormal(True)
    if settings["part"] == "joined":
        return joined(settings)
    gan = networks(settings["gan"]["checkpoint"], settings["logit"])
    generator = torch.Generator().manual_seed(settings["seed"])
    samples = settings["call"](gan, settings["n"], generator)
    images, n = to_uint8(samples.x).cpu(), settings["n"]
    with torch.no_grad():
        d = torch.cat([gan.logit(part) for part in samples.x.split(250)])
    row = {
        "forwards": samples.forwards / n,
        "gradients": samples.gradients / n,
        "info": samples.info,
        "logit_mean": d.mean().item(),
        "squared_norm": samples.z.flatten(1).square().sum(1).mean().item(),
    }
    if settings["matched"]:
        images = contrast_matched(images, real_images(settings["data"]))
    if "detector" in settings:
        row["faces"] = sum(has_face(images, settings["detector"])) / n
    for name, about in settings["judges"].items():
        extractor = get_extractor(name)
        row[name] = score(images, extractor, load_reference(extractor, about["split"], about["data"]))
    return row


def job(
    part: str,
    method: str,
    call: Callable[..., Samples],
    n: int,
    *,
    gan: str = "cifar10-gan",
    kind: str | None = None,
    seed: int = 0,
    matched: bool = False,
) -> dict:
    """Settings of one set of samples; those of one seed share their starts."""
    data, kind = gan.split("-")[0], kind or read_card(f"{gan}-logits")["chosen"]
    given = {"part": part, "method": method, "call": call, "n": n, "seed": seed, "matched": matched}
    judges = {name: measure(name, "test", data) for name in JUDGES[data] if part != "detector"}
    given |= {"detector": DETECTOR} if data == "celeba64" else {}
    networks = {"gan": fingerprint(gan), "logits": fingerprint(f"{gan}-logits"), "logit": kind}
    return given | networks | {"data": data, "judges": judges, "version": VERSION}


def by_name(settings: list[dict]) -> dict[str, dict]:
    name = "{part}, {gan[checkpoint]}, {logit}, {method}, matched {matched}, n {n}, seed {seed}"
    return {name.format(**job): job for job in settings}


def face_jobs() -> list[dict]:
    """The settings of the entries of `image/celeba64`, the most wanted first."""
    card = read_card(f"{FACES}-logits")
    new = partial(job, gan=FACES, kind=card["chosen"])
    real_ones = {
        "real test": partial(real, data="celeba64", split="test"),
        "CIFAR-10 test": partial(real, data="cifar10", split="test"),
    }
    alone = {"generator": generator_only}
    controls = {f"scale {s}": partial(scaled, scale=s) for s in (0.8, 1.2)}
    paths = {"ULA 10": partial(ula_chains, step_size=STEP_SIZE, n_steps=N_STEPS)}
    paths |= LONG_STEPS
    pool = partial(importance_resampling, n_particles=30)  # the law of d without a chain's bias
    found = []
    for seed in range(SEEDS):
        for method in (real_ones | alone | controls).items():
            found += [new("detector", *method, 500, seed=seed)]
        found += [new("final", *method, N_FACES, seed=seed) for method in (alone | paths).items()]
        found += [new("control", *method, N_FACES, seed=seed) for method in (controls | NO_GUIDE).items()]
        found += [new("rival", "resampling", pool, N_FACES, seed=seed)]
        found += [new("control", "generator", generator_only, N_FACES, seed=seed, matched=True)]
        found += [new("real", "train", partial(real, data="celeba64", split="train"), N_FACES, seed=seed)]
    return found


def jobs() -> Jobs:
    """The settings of all entries, the most wanted first."""
    methods = {
        "generator": generator_only,
        "ULA": partial(ula_chains, step_size=STEP_SIZE, n_steps=N_STEPS),
    }
    controls = {f"scale {s}": partial(scaled, scale=s) for s in SCALES}
    few = ("scale 0.8", "scale 1.2")
    found = []
    for seed in range(SEEDS):
        for gan in GANS:
            found += [job("final", *method, 1000, gan=gan, seed=seed) for method in methods.items()]
            found += [job("control", name, controls[name], 1000, gan=gan, seed=seed) for name in few]
    found += [job("control", *method, 1000, matched=True) for method in methods.items()]
    found += [job("control", *control, 1000) for control in controls.items() if control[0] not in few]
    for gan, seed in (
        *(("cifar10-gan", seed) for seed in range(SEEDS)),
        ("cifar10-gan-1", 0),
        ("cifar10-gan-2", 0),
    ):
        found += [job("rival", *rival, 500, gan=gan, seed=seed) for rival in (methods | RIVALS).items()]
    for kind in ("line", "maps line", "maps 3", "conv"):
        found += [job("logit", "ULA", methods["ULA"], 500, kind=kind)]
    pairs = [("classifier 1", "conv"), ("classifier 1", "maps 3"), ("classifier 1", "maps line")]
    for kinds in pairs:
        made = {"gan": fingerprint("cifar10-gan"), "logits": fingerprint("cifar10-gan-logits")}
        made |= {"part": "joined", "method": " + ".join(kinds), "kinds": kinds, "n_fit": 2000, "n": 5000}
        found.append(
            made | {"seed": 0, "data": "cifar10", "logit": kinds[0], "matched": False, "version": VERSION}
        )
    for seed in range(SEEDS):
        found += [job("sum", "ULA", methods["ULA"], 1000, kind="classifier 1 + maps line", seed=seed)]
        found += [job("step", *method, 500, seed=seed) for method in LONG_STEPS.items()]
        for gan in GANS:
            found += [job("control", *idle, 1000, gan=gan, seed=seed) for idle in NO_GUIDE.items()]
    floor = partial(real, data="cifar10", split="train")
    found += [job("floor", "training images", floor, n) for n in (500, 1000, LARGE)]
    for gan in GANS:
        moves = methods | NO_GUIDE | {"scale 1.2": controls["scale 1.2"]}
        found += [job("large", *method, LARGE, gan=gan) for method in moves.items()]
    return {"image/cifar10": by_name(found), "image/celeba64": by_name(face_jobs())}


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
