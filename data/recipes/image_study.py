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
from itertools import product

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch import Tensor

from data.recipes.face_detector import DETECTOR, has_face
from data.recipes.study import (
    LOADERS,
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
from utils.density_ratio import describe, logistic_loss, logits_of
from utils.images import load_cifar10, to_uint8, to_unit
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
STEP_SIZE, N_STEPS, SEEDS = 0.05, 10, range(3)
LARGE = 10_000  # images a set, so that little of a Frechet distance is bias
FACES, N_FACES = "celeba64-gan", 1000
REAL = {"real": "celeba64", "CIFAR-10": "cifar10"}
GANS = ("cifar10-gan", "cifar10-gan-1", "cifar10-gan-2")
NO_GUIDE = {"no guide": partial(prior_chains, step_size=STEP_SIZE, n_steps=N_STEPS)}
LONG_STEPS = {"ULA 0.2 x 3": partial(ula_chains, step_size=0.2, n_steps=3)}
OTHER_LOGITS = ("line", "maps line", "maps 3", "conv")
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

    matched, *own = parts(images)
    for part, wanted in zip(own, parts(real)[1:], strict=True):
        matched = matched + (wanted.square().mean() / part.square().mean()).sqrt() * part
    return (matched.clamp(0, 1) * 255).round().to(torch.uint8)


def divergence(real: Tensor, fake: Tensor) -> float:
    """Jensen-Shannon divergence in nats that a fresh ridge classifier of features finds, 5-fold held out."""
    n = min(len(real), len(fake))
    x = torch.cat([real[:n], fake[:n]]).double()
    x = ((x - x.mean(0)) / x.std(0).clamp_min(1e-9)).numpy()
    ridge, y = LogisticRegression(C=0.003), [1] * n + [0] * n
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


def joined(settings: dict) -> dict:
    """What held-out images say of two logits, each Platt-scaled, and of a d_1 + b d_2 + c fitted to both."""
    name, n_fit, n = settings["gan"]["checkpoint"], settings["n_fit"], settings["n"]
    G, generator = load_gan(name), torch.Generator().manual_seed(settings["seed"])
    sets = [to_unit(load_cifar10("train").images[-n_fit:]), to_unit(load_cifar10("test").images[:n])]
    sets += [draw_samples(G, k, generator) for k in (n_fit, n)]
    logits = {kind: load_logit(kind, name) for kind in settings["kinds"]}
    found = {kind: [logits_of(logit, x, 250).double() for x in sets] for kind, logit in logits.items()}
    both = [torch.stack(pair, 1) for pair in zip(*found.values(), strict=True)]  # (n, 2) of each set
    fit = LogisticRegression(C=math.inf, solver="newton-cholesky")
    fit.fit(torch.cat([both[0], both[2]]).numpy(), [1] * n_fit + [0] * n_fit)
    weights = torch.from_numpy(fit.coef_[0])
    found["joined"] = [x @ weights + fit.intercept_[0] for x in both]
    held_out = {kind: describe(real_d, fake_d) for kind, (_, real_d, _, fake_d) in found.items()}
    return {"weights": weights.tolist()} | held_out


def work(settings: dict) -> dict:
    """Draw and score one set of samples."""
    torch.set_flush_denormal(True)
    if settings["part"] == "joined":
        return joined(settings)
    gan = networks(settings["gan"]["checkpoint"], settings["logit"])
    generator = torch.Generator().manual_seed(settings["seed"])
    samples = settings["call"](gan, settings["n"], generator)
    images, n = to_uint8(samples.x).cpu(), settings["n"]
    row = {
        "forwards": samples.forwards / n,
        "gradients": samples.gradients / n,
        "info": samples.info,
        "logit_mean": logits_of(gan.logit, samples.x, 250).mean().item(),
        "squared_norm": samples.z.flatten(1).square().sum(1).mean().item(),
    }
    if settings["matched"]:
        images = contrast_matched(images, LOADERS[settings["data"]]("train").images[:5000])
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


def joined_job(*kinds: str) -> dict:
    """Settings of one comparison of two logits with their sum."""
    made = {"gan": fingerprint(GANS[0]), "logits": fingerprint(f"{GANS[0]}-logits"), "kinds": kinds}
    made |= {"part": "joined", "method": " + ".join(kinds), "n_fit": 2000, "n": 5000, "version": VERSION}
    return made | {"seed": 0, "data": "cifar10", "logit": kinds[0], "matched": False}


def jobs() -> Jobs:
    """The settings of all entries."""
    alone = {"generator": generator_only}
    moved = partial(ula_chains, step_size=STEP_SIZE, n_steps=N_STEPS)
    methods = alone | {"ULA": moved}
    controls = {f"scale {s}": partial(scaled, scale=s) for s in SCALES}
    few = {name: controls[name] for name in ("scale 0.8", "scale 1.2")}
    tested = {f"{name} test": partial(real, data=data, split="test") for name, data in REAL.items()}
    floor = {"training images": partial(real, data="cifar10", split="train")}
    face_floor = {"train": partial(real, data="celeba64", split="train")}
    pool = {"resampling": partial(importance_resampling, n_particles=30)}  # d's law without a chain's bias
    faces, main = (FACES,), GANS[:1]
    plan = [  # part, methods, n, generators, seeds, further arguments of `job`
        ("final", methods, 1000, GANS, SEEDS),
        ("control", few | NO_GUIDE, 1000, GANS, SEEDS),
        ("control", controls, 1000, main, [0]),
        ("control", methods, 1000, main, [0], {"matched": True}),
        ("rival", methods | RIVALS, 500, main, SEEDS),
        ("rival", methods | RIVALS, 500, GANS[1:], [0]),
        ("step", LONG_STEPS, 500, main, SEEDS),
        ("sum", {"ULA": moved}, 1000, main, SEEDS, {"kind": "classifier 1 + maps line"}),
        ("large", methods | NO_GUIDE | {"scale 1.2": few["scale 1.2"]}, LARGE, GANS, [0]),
        ("detector", tested | alone | few, 500, faces, SEEDS),
        ("final", alone | {"ULA 10": moved} | LONG_STEPS, N_FACES, faces, SEEDS),
        ("control", few | NO_GUIDE, N_FACES, faces, SEEDS),
        ("control", alone, N_FACES, faces, SEEDS, {"matched": True}),
        ("rival", pool, N_FACES, faces, SEEDS),
        ("real", face_floor, N_FACES, faces, SEEDS),
    ]
    plan += [("logit", {"ULA": moved}, 500, main, [0], {"kind": kind}) for kind in OTHER_LOGITS]
    plan += [("floor", floor, n, main, [0]) for n in (500, 1000, LARGE)]
    found = [joined_job("classifier 1", other) for other in ("conv", "maps 3", "maps line")]
    for part, called, n, gans, seeds, *further in plan:
        for gan, seed, method in product(gans, seeds, called.items()):
            found.append(job(part, *method, n, gan=gan, seed=seed, **dict(*further)))
    name = "{part}, {gan[checkpoint]}, {logit}, {method}, matched {matched}, n {n}, seed {seed}"
    return {f"image/{data}": {name.format(**s): s for s in found if s["data"] == data} for data in JUDGES}


if __name__ == "__main__":
    run_jobs(__doc__, jobs(), work)
