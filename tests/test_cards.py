"""The command on a checkpoint's card makes that checkpoint: the recipe is run with it, training left out."""

import argparse
import importlib
import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from data.recipes import cifar10_gan, toy_gans
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

    def save(name, modules, card, int8=False):
        stored[name] = json.loads(json.dumps(card))
        return Path(__file__)

    def train(G, D, *_, **__):
        return TrainResult(G, G, D)

    for recipe in (cifar10_gan, toy_gans):
        monkeypatch.setattr(recipe, "save_checkpoint", save)
    monkeypatch.setattr(cifar10_gan, "train_gan", train)
    monkeypatch.setattr(toy_gans, "train", lambda target, quality, seed: train(*build(seed)))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return stored


def names(ending: str) -> list[str]:
    return [name for name in list_checkpoints() if name.endswith(ending) or name.startswith(ending)]


IMAGE_GANS = [
    name for name in list_checkpoints() if "-gan" in name and "logits" not in name and "toy" not in name
]


def same_config(stored: dict, made: dict) -> bool:
    return made == NEW_FIELDS | stored


@pytest.mark.parametrize("name", IMAGE_GANS)
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
def test_the_command_of_fitted_logits_names_its_generator_and_kinds(name):
    card = read_card(name)
    recipe, arguments = command_of(card)
    option, gan, kinds_option, *kinds = arguments
    assert (option, f"{gan}-logits", kinds_option) == ("--gan", name, "--kinds")
    assert kinds == list(card["logits"])
    for kind, entry in card["logits"].items():
        candidate = recipe.CANDIDATES[kind]
        assert entry["architecture"] == candidate.architecture
        assert entry.get("penalty", candidate.penalty) == candidate.penalty


@pytest.mark.parametrize("name", ["cifar10-classifier", "cifar10-features"])
def test_the_command_of_a_classifier_has_its_settings(name, monkeypatch):
    card = read_card(name)
    recipe, arguments = command_of(card)
    parse, parsed = argparse.ArgumentParser.parse_args, []

    def stop(parser, given):
        parsed.append(parse(parser, given))
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(SystemExit):
        recipe.main(arguments)
    asked = parsed[0]
    assert (asked.name, asked.epochs, asked.seed) == (name, card["epochs"], card["seed"])
    assert asked.width == card["architecture"]["width"]
    assert f"first {50_000 - asked.held_out:,} training images" in card["data"] or not asked.held_out


def test_every_card_is_among_these():
    checked = {*IMAGE_GANS, *names("toy-gans"), *names("-logits"), "cifar10-classifier", "cifar10-features"}
    assert checked == set(list_checkpoints())
