"""Train the CIFAR-10 classifier of the image metrics: `python -m data.recipes.cifar10_classifier`.

Trains on the 50,000 training images and reports accuracy and calibration on the 10,000 test images, which
choose nothing. A snapshot after every epoch lets `--resume` continue an interrupted run exactly.
"""

import argparse
import os
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from utils.checkpoints import save_checkpoint, write_atomically
from utils.config import RUNS
from utils.images import load_cifar10, to_unit
from utils.models.classifier import Classifier

NAME = "cifar10-classifier"
SNAPSHOT = RUNS / f"{NAME}.pt"
BATCH_SIZE = 256
LEARNING_RATE = 0.4  # at the peak, for the mean loss over a batch
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.15
SHIFT = 2  # pixels of random translation


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images (n, 3, 32, 32) to floats in [-1, 1], channels last in memory."""
    return to_unit(images).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image with probability 1/2 and shift it by up to `SHIFT` pixels, reflecting at the border."""
    n, _, side, _ = images.shape
    flip = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    x = torch.where(flip, images.flip(3), images)  # (n, 3, side, side)
    x = F.pad(to_unit(x), (SHIFT,) * 4, mode="reflect").permute(0, 2, 3, 1)  # (n, side + 4, side + 4, 3)
    corner = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)
    rows, columns = corner + torch.arange(side)  # (n, side) each
    x = x[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]  # (n, side, side, 3)
    return x.permute(0, 3, 1, 2)  # (n, 3, side, side), channels last in memory


def learning_rate(progress: float) -> float:
    """Triangular schedule: from 20% up to the peak in the first fifth of the run, then linearly to zero."""
    return LEARNING_RATE * (0.2 + 4 * progress if progress < 0.2 else (1 - progress) / 0.8)


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
    """Class probabilities (n, 10) of uint8 images (n, 3, 32, 32), in float32."""
    model.eval()
    return torch.cat([model(to_float(batch)).softmax(dim=1) for batch in images.split(500)])


def calibration_error(probabilities: Tensor, labels: Tensor, n_bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of equal width."""
    confidence, prediction = probabilities.max(dim=1)  # (n,), (n,)
    surplus = confidence - (prediction == labels).float()  # (n,)
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)  # (n,)
    return (torch.zeros(n_bins).index_add(0, bins, surplus).abs().sum() / len(labels)).item()


def best_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """The T that minimises the log loss of softmax(logits / T) (Guo et al., 2017), on a grid."""
    logits = probabilities.double().log()  # the logits up to a constant of each image
    grid = [round(0.3 + 0.01 * i, 2) for i in range(171)]
    return min(grid, key=lambda T: F.cross_entropy(logits / T, labels).item())


def calibrate(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Temperature from the first half of held-out data, its calibration error on the second; for the card."""
    half = len(labels) // 2
    temperature = best_temperature(probabilities[:half], labels[:half])
    scaled = (probabilities[half:].log() / temperature).softmax(dim=1)
    error = calibration_error(scaled, labels[half:])
    return {"temperature": temperature, "calibration_error_at_temperature": round(error, 4)}


def read_snapshot() -> dict:
    """The state after the last finished epoch; exits with a line that says what to do if there is none."""
    remedy = "leave out --resume to start the training again"
    if not SNAPSHOT.exists():
        raise SystemExit(f"there is no snapshot at {SNAPSHOT}; {remedy}")
    try:
        return torch.load(SNAPSHOT, weights_only=True)
    except Exception as error:
        # torch's own text advises loading without weights_only
        raise SystemExit(f"{SNAPSHOT} cannot be read ({type(error).__name__}); {remedy}") from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=0, help="leave out the last so many training images")
    parser.add_argument("--name", default=NAME, help="name of the checkpoint")
    parser.add_argument("--resume", action="store_true", help="continue from the last finished epoch")
    args = parser.parse_args(arguments)
    settings = {"epochs": args.epochs, "width": args.width, "seed": args.seed, "held_out": args.held_out}

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train, test = load_cifar10("train"), load_cifar10("test")
    n_train = len(train.images) - args.held_out
    model = Classifier(width=args.width)
    model.whiten_patches(to_float(train.images[:5000]))
    model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model)
    first_epoch, seconds_before, start = 0, 0.0, time.time()

    if args.resume:
        snapshot = read_snapshot()
        if snapshot["settings"] != settings:
            raise SystemExit(f"the snapshot was made with {snapshot['settings']}; resume with the same")
        model.load_state_dict(snapshot["model"])
        optimizer.load_state_dict(snapshot["optimizer"])
        generator.set_state(snapshot["generator"])
        first_epoch, seconds_before = snapshot["epoch"], snapshot["seconds"]

    n_batches = n_train // BATCH_SIZE
    n_steps = args.epochs * n_batches
    bar = tqdm(total=n_steps, initial=first_epoch * n_batches, unit="step", mininterval=2)
    for epoch in range(first_epoch, args.epochs):
        model.train()
        mean_loss = torch.zeros(())
        order = torch.randperm(n_train, generator=generator)
        for i, batch in enumerate(order.split(BATCH_SIZE)[:n_batches]):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate((epoch * n_batches + i) / n_steps)
            x = augment(train.images[batch], generator)  # (BATCH_SIZE, 3, 32, 32)
            loss = train_step(model, optimizer, x, train.labels[batch])
            mean_loss += (loss - mean_loss) / (i + 1)
            bar.set_postfix(epoch=epoch + 1, loss=f"{mean_loss:.3f}", refresh=False)
            bar.update()
        snapshot = {
            "settings": settings,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "epoch": epoch + 1,
            "seconds": seconds_before + time.time() - start,
        }
        write_atomically(SNAPSHOT, lambda path, snapshot=snapshot: torch.save(snapshot, path))
    bar.close()
    seconds = seconds_before + time.time() - start

    probabilities = predict(model, test.images)  # (10000, 10)
    metrics = {
        "test_accuracy": (probabilities.argmax(dim=1) == test.labels).float().mean().item(),
        "test_calibration_error": calibration_error(probabilities, test.labels),
        "test_nll": F.nll_loss(probabilities.log(), test.labels).item(),
        "n_test": len(test.labels),
    }
    card = {
        "task": "CIFAR-10 classification: class posteriors and features for the image metrics",
        "architecture": {"width": args.width, "n_classes": 10},
        "data": f"CIFAR-10, the first {n_train:,} training images; metrics on the 10,000 test images, plain "
        "forward pass",
        **calibrate(probabilities, test.labels),
        "epochs": args.epochs,
        "seed": args.seed,
        "command": f"python -m data.recipes.cifar10_classifier --epochs {args.epochs} --width {args.width}"
        f" --seed {args.seed} --threads {args.threads}"
        + (f" --held-out {args.held_out} --name {args.name}" if args.name != NAME else ""),
        "metrics": {key: round(value, 4) for key, value in metrics.items()},
        "seconds": round(seconds),
        "hardware": f"{os.cpu_count()}-core CPU, {args.threads} thread{'s' * (args.threads > 1)}, bf16",
    }
    path = save_checkpoint(args.name, {"classifier": model}, card)
    print(f"{path.name}: {card['metrics']}, {seconds / 60:.0f} minutes")


if __name__ == "__main__":
    main()
