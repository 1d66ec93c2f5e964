"""Train the CIFAR-10 classifier of the image metrics: `python -m data.recipes.cifar10_classifier`.

Trains on the 50,000 training images and reports its accuracy on the 10,000 test images, which choose nothing
but the temperature. An interrupted run goes on, after its last finished epoch, when called again.
"""

import argparse
import time
from pathlib import Path

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from data.recipes import made_by
from utils.augmentation import translation
from utils.checkpoints import save_checkpoint, write_atomically
from utils.config import RUNS
from utils.images import load_cifar10, to_unit
from utils.models.classifier import Classifier

BATCH_SIZE = 256
LEARNING_RATE = 0.4  # at the peak, for the mean loss over a batch
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.15
SHIFT = 2  # pixels of random translation


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image with probability 1/2 and shift it by up to `SHIFT` pixels, reflecting at the border."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    x = to_unit(torch.where(flip, images.flip(3), images))
    padded = F.pad(x, (SHIFT,) * 4, mode="reflect")
    shifted = translation(padded, generator, SHIFT / padded.shape[3])[..., SHIFT:-SHIFT, SHIFT:-SHIFT]
    return shifted.contiguous(memory_format=torch.channels_last)


def make_optimizer(model: Classifier) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay on convolutions and head, not on biases and batch norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim == 1]},
    ]
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=0.9, nesterov=True)


def train_step(model: Classifier, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> Tensor:
    """One update on images `x` (n, 3, 32, 32) in [-1, 1]; returns the loss before it."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        logits = model(x)  # (n, 10)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Log probabilities (n, 10) of uint8 images (n, 3, 32, 32), in float32."""
    model.eval()
    return torch.cat([model(to_unit(batch)).log_softmax(dim=1) for batch in images.split(500)])


def best_temperature(log_p: Tensor, labels: Tensor) -> float:
    """The T that minimises the log loss of softmax(log_p / T) (Guo et al., 2017)."""

    def loss(T: float) -> float:
        return F.cross_entropy(log_p.double() / T, labels).item()

    return round(float(minimize_scalar(loss, bounds=(0.3, 2), method="bounded").x), 2)


def read_snapshot(path: Path, settings: dict) -> dict:
    """The state after the last finished epoch, {} without one; exits where it cannot be gone on from."""
    if not path.exists():
        return {}
    try:
        snapshot = torch.load(path, weights_only=True)
    except Exception as error:  # torch's own text advises loading without weights_only
        reason = f"{path} cannot be read ({type(error).__name__})"
        raise SystemExit(f"{reason}; delete it to start the run again") from error
    if snapshot["settings"] != settings:
        made = f"{path} was made with {snapshot['settings']}"
        raise SystemExit(f"{made}; use the same, or delete it to start the run again")
    return snapshot


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=0, help="leave out the last so many training images")
    parser.add_argument("--name", default="cifar10-classifier", help="name of the checkpoint")
    args = parser.parse_args(arguments)
    settings = {"epochs": args.epochs, "width": args.width, "seed": args.seed, "held_out": args.held_out}

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train, test = load_cifar10("train"), load_cifar10("test")
    n_train = len(train.images) - args.held_out
    n_batches = n_train // BATCH_SIZE
    n_steps = args.epochs * n_batches
    model = Classifier(width=args.width)
    model.whiten_patches(to_unit(train.images[:5000]))
    model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model)

    def triangle(step: int) -> float:
        """From 20 % up to the peak in the first fifth of the run, then linearly to zero."""
        progress = step / n_steps
        return 0.2 + 4 * progress if progress < 0.2 else (1 - progress) / 0.8

    parts = {"model": model, "optimizer": optimizer, "schedule": LambdaLR(optimizer, triangle)}
    path = RUNS / args.name / "state.pt"
    snapshot = read_snapshot(path, settings)
    if snapshot:
        for name, part in parts.items():
            part.load_state_dict(snapshot[name])
        generator.set_state(snapshot["generator"])
    first_epoch, start = snapshot.get("epoch", 0), time.time() - snapshot.get("seconds", 0)

    bar = tqdm(total=n_steps, initial=first_epoch * n_batches, unit="step", mininterval=2)
    for epoch in range(first_epoch, args.epochs):
        model.train()
        order = torch.randperm(n_train, generator=generator)
        for batch in order.split(BATCH_SIZE)[:n_batches]:
            x = augment(train.images[batch], generator)  # (BATCH_SIZE, 3, 32, 32)
            loss = train_step(model, optimizer, x, train.labels[batch])
            parts["schedule"].step()
            bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.3f}", refresh=False)
            bar.update()
        snapshot = {name: part.state_dict() for name, part in parts.items()}
        snapshot |= {"settings": settings, "generator": generator.get_state()}
        snapshot |= {"epoch": epoch + 1, "seconds": time.time() - start}
        write_atomically(path, lambda temporary, state=snapshot: torch.save(state, temporary))
    bar.close()

    log_p, half = predict(model, test.images), len(test.labels) // 2
    accuracy = (log_p.argmax(dim=1) == test.labels).float().mean().item()
    card = {
        "task": "CIFAR-10 classification: class posteriors and features for the image metrics",
        "architecture": {"width": args.width, "n_classes": 10},
        "data": f"CIFAR-10, the first {n_train:,} training images; metrics on the 10,000 test images, plain "
        "forward pass",
        "temperature": best_temperature(log_p[:half], test.labels[:half]),
        "epochs": args.epochs,
        "seed": args.seed,
        "metrics": {
            "test_accuracy": round(accuracy, 4),
            "test_nll": round(F.nll_loss(log_p, test.labels).item(), 4),
            "n_test": len(test.labels),
        },
        **made_by("cifar10_classifier", arguments, time.time() - start),
    }
    path = save_checkpoint(args.name, {"classifier": model}, card)
    print(f"{path.name}: {card['metrics']}, {card['seconds'] / 60:.0f} minutes")


if __name__ == "__main__":
    main()
