"""The command on a checkpoint's card makes that checkpoint: the recipe is run with it, training left out."""

import argparse
import importlib
import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from data.recipes import image_gan, image_logits, toy_gans
from utils.checkpoints import list_checkpoints, read_card
from utils.images import ImageSet
from utils.training import TrainConfig, TrainResult
from utils.zoo import build

NEW_FIELDS = json.loads(json.dumps(asdict(TrainConfig())))  # a card may be older than a field


def command_of(card: dict):
    """The recipe's module and the arguments of the card's command."""
    python, flag, module, *arguments = shlex.split(card["command"])
    assert (python, flag) == ("python", "-m")
    return importlib.import_module(module), arguments


@pytest.fixture
def cards(monkeypatch):
    """What the recipes want to store, by name; nothing is trained and nothing written."""
    stored = {}

    def save(name, modules, card):
        stored[name] = json.loads(json.dumps(card))
        return Path(__file__)

    def train(G, D, *_, **__):
        return TrainResult(G, G, D)

    for recipe in (image_gan, image_logits, toy_gans):
        monkeypatch.setattr(recipe, "save_checkpoint", save)
    monkeypatch.setattr(image_gan, "train_gan", train)
    monkeypatch.setattr(toy_gans, "train", lambda target, quality, seed: train(*build(seed)))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return stored


def names(ending: str) -> list[str]:
    return [name for name in list_checkpoints() if name.endswith(ending) or name.startswith(ending)]


def same_config(stored: dict, made: dict) -> bool:
    return made == NEW_FIELDS | stored


@pytest.mark.parametrize("name", names("-gan"))
def test_the_command_of_an_image_gan_has_its_architecture_and_settings(name, cards, monkeypatch):
    card = read_card(name)
    recipe, arguments = command_of(card)
    size, n = card["architecture"]["image_size"], int(card["data"].split()[0])
    images = torch.zeros(1, 3, size, size, dtype=torch.uint8).expand(n, -1, -1, -1)
    for load in ("load_cifar10", "load_faces"):
        monkeypatch.setattr(recipe, load, lambda *_, **__: ImageSet(images, None, "blank"), raising=False)
    recipe.main(arguments)
    made = cards[name]
    assert same_config(card["config"], made["config"])
    assert all(made[key] == card[key] for key in ("architecture", "command", "task", "data"))


@pytest.mark.parametrize("name", names("toy-gans"))
def test_the_command_of_the_2_d_gans_has_their_settings(name, cards):
    card = read_card(name)
    recipe, arguments = command_of(card)
    recipe.main(arguments)
    made = cards[name]
    assert made["config"].keys() == card["config"].keys()
    assert all(same_config(card["config"][quality], made["config"][quality]) for quality in card["config"])
    assert all(made[key] == card[key] for key in ("architecture", "command", "task", "seeds"))


@pytest.mark.parametrize("name", names("-logits"))
def test_the_command_of_fitted_logits_has_their_settings(name, cards, monkeypatch):
    card, steps = read_card(name), {}
    recipe, arguments = command_of(card)
    images = torch.zeros(1, 3, 8, 8).expand(5000, -1, -1, -1)
    held_out = image_logits.HeldOut(images, images)
    stubs = {
        "held_out_halves": lambda *_: (held_out, held_out),
        "fit_logit": lambda logit, *_, n_steps, **settings: (
            steps.update({frozenset(settings.items()): n_steps}) or []
        ),
        "logits_of": lambda *_: torch.zeros(1),
        "platt": lambda *_: (1.0, 0.0),
        "describe": lambda *_: {"loss": 0.0, "accuracy": 0.0},
    }
    for place, stub in stubs.items():
        monkeypatch.setattr(image_logits, place, stub)
    for load in ("load_cifar10", "load_faces"):
        blank = ImageSet(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None, "blank")
        monkeypatch.setattr(recipe, load, lambda *_, blank=blank, **__: blank, raising=False)
    recipe.main(arguments)
    made = cards[name]
    assert [made[key] for key in ("command", "task", "data")] == [
        card[key] for key in ("command", "task", "data")
    ]
    stored = card["logits"] | card.get("left_out", {})
    assert made["logits"].keys() == stored.keys()
    for kind, entry in stored.items():
        assert made["logits"][kind].get("fit") == entry.get("fit"), kind
        if entry.get("history"):
            settings = entry["fit"] | {"precision": "bfloat16"}
            assert max(step for step, _ in entry["history"]) <= steps[frozenset(settings.items())]


def test_the_command_of_the_classifier_has_its_settings(monkeypatch):
    card = read_card("cifar10-classifier")
    recipe, arguments = command_of(card)
    parse, parsed = argparse.ArgumentParser.parse_args, []

    def stop(parser, given):
        parsed.append(parse(parser, given))
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(SystemExit):
        recipe.main(arguments)
    asked = parsed[0]
    assert (asked.width, asked.epochs, asked.seed) == (64, card["epochs"], card["seed"])
    assert asked.width == card["architecture"]["width"]


def test_every_card_is_among_these():
    checked = {name for ending in ("-gan", "toy-gans", "-logits") for name in names(ending)}
    assert checked | {"cifar10-classifier"} == set(list_checkpoints())
