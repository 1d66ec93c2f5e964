"""Every sampler on every stored 2-D GAN: `python -m data.recipes.toy_study 25-gaussians` (or `swiss-roll`).

For each quality and seed: the ladder of logits (raw, calibrated, refitted, nearly exact) under DDLS with
ULA and with MALA, then all rivals on the refitted logit. n samples each, all measured against the same
fresh points. Writes `data/studies/toy/<target>.json`; a run that was interrupted goes on.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from utils.checkpoints import write_atomically
from utils.config import DATA
from utils.density_ratio import (
    Affine,
    calibration_error,
    effective_ratio_check,
    logistic_loss,
    logits_of,
)
from utils.metrics.toy import summary
from utils.samplers import mala, ula
from utils.selection import (
    LatentGAN,
    Samples,
    generator_only,
    importance_resampling,
    mcmc,
    metropolis_hastings,
    rejection,
)
from utils.toy import TARGETS
from utils.transport import discriminator_optimal_transport, gradient_flow
from utils.zoo import SEEDS, STEPS, calibrate, load_toy_gan, nearly_exact, refit, samples_of

N = 2500  # samples of each method
LADDER = ("raw", "calibrated", "refitted", "nearly exact")
DDLS = {
    "DDLS, ULA": partial(mcmc, kernel=ula(1e-3), n_steps=300),
    "DDLS, MALA": partial(mcmc, kernel=mala(1e-3), n_steps=300),
}
# the settings are those of each paper where it names them, else the defaults of our functions
METHODS: dict[str, Callable[..., Samples]] = {
    "generator": generator_only,
    "DRS": rejection,
    "DRS, gamma at 80 %": partial(rejection, percentile=80.0),
    "MH-GAN": metropolis_hastings,
    "importance resampling": importance_resampling,
    "DOT": partial(discriminator_optimal_transport, space="data"),
    "DG-flow": gradient_flow,
} | DDLS


def ladder(target: str, G: nn.Module, D: nn.Module, seed: int) -> dict[str, nn.Module]:
    """The four logits of one GAN, each worth more than the one before."""
    draw_real = TARGETS[target].sample
    return {
        "raw": D,
        "calibrated": calibrate(D, draw_real, samples_of(G)),
        "refitted": refit(G, draw_real, seed=seed)[0],
        "nearly exact": nearly_exact(G, TARGETS[target], seed=seed),
    }


def judge(target: str, G: nn.Module, logit: nn.Module, n: int = 20_000) -> dict[str, float]:
    """How good a log ratio a logit is, on n fresh real points and n fresh samples."""
    generator = torch.Generator().manual_seed(300)
    real = logits_of(logit, TARGETS[target].sample(n, generator), 10_000)
    fake = logits_of(logit, samples_of(G)(n, generator), 10_000)
    slope = logit.slope.item() if isinstance(logit, Affine) else None
    return {
        "loss": logistic_loss(real, fake),
        "calibration_error": calibration_error(real, fake),
        "log_mean_ratio": effective_ratio_check(fake),
        "highest": fake.max().item(),
        "slope": slope,
    }


def measure(target: str, G: nn.Module, logit: nn.Module, method: Callable[..., Samples], seed: int) -> dict:
    """One row of the table: quality of N samples, their cost in network evaluations and seconds.

    Rejection gives up after 1,000 proposals a sample; its row then says so and holds nothing else.
    """
    reference = TARGETS[target].sample(5000, torch.Generator().manual_seed(400))
    started = time.process_time()
    try:
        samples = method(LatentGAN(G, logit, chunk_size=5000), N, torch.Generator().manual_seed(seed))
    except RuntimeError as error:
        return {"gave_up": str(error)}
    seconds = time.process_time() - started
    cost = {"forwards": samples.forwards, "gradients": samples.gradients, "seconds": round(seconds, 2)}
    return summary(samples.x, TARGETS[target], reference) | cost | {"info": samples.info}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    args = parser.parse_args(arguments)
    path = DATA / "studies" / "toy" / f"{args.target}.json"
    study = json.loads(path.read_text()) if path.exists() else {"logits": [], "rows": []}
    study["protocol"] = {"n": N, "reference": 5000, "seeds": len(SEEDS), "seconds": "of processor time"}
    done = {(row["quality"], row["seed"]) for row in study["logits"]}
    for quality in STEPS:
        for seed in SEEDS:
            if (quality, seed) in done:
                continue
            G, D = load_toy_gan(args.target, quality, seed)
            logits = ladder(args.target, G, D, seed)
            for name, logit in logits.items():
                who = {"quality": quality, "seed": seed, "logit": name}
                study["logits"].append(who | judge(args.target, G, logit))
                for method in METHODS if name == "refitted" else DDLS:
                    row = measure(args.target, G, logit, METHODS[method], seed)
                    study["rows"].append(who | {"method": method} | row)
                    print(*who.values(), method, row.get("high_quality_share", "gave up"), flush=True)
            text = json.dumps(study, indent=1) + "\n"
            write_atomically(path, lambda p, text=text: p.write_text(text))


if __name__ == "__main__":
    main()
