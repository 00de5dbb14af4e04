from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolofpn.data.added_classes import AddedClasses
from yolofpn.models.build import build_yolo
from yolofpn.models.heads.predictions import flatten_maps
from yolofpn.models.yolo import YOLO
from yolofpn.structures import Target
from yolofpn.training.incremental import IncrementalTraining, bernoulli_divergence

from .small import small_config

CLASSES = AddedClasses(("bright", "dark", "gray"), (0, 1, 2), (2,), kept=(0, 1), new=(2,))
IMAGES = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
SURE = 6.0  # a logit: a probability of .9975


def detector(classes: int) -> YOLO:
    config = small_config()
    return build_yolo(config.model, classes, config.input, config.postprocess)


def answering(model: YOLO, label: int | None) -> dict[str, Tensor]:
    """Make the network answer with nothing but an object of class ``label`` at p5, anchor 0, column 1, row 0."""
    count = 2 * (5 + model.num_classes)
    maps = {"p4": torch.full((1, count, 4, 4), -SURE), "p5": torch.full((1, count, 2, 2), -SURE)}
    for raw in maps.values():
        raw.view(1, 2, -1, *raw.shape[2:])[:, :, :4] = 0  # the anchor itself, in the middle of its cell
        raw.requires_grad_()
    if label is not None:
        with torch.no_grad():
            maps["p5"][0, [4, 5 + label], 0, 1] = SURE
    model.dense = lambda images: maps  # type: ignore[method-assign]
    return maps


def target(*boxes: tuple[float, float, float, float], label: int = 2) -> Target:
    count = len(boxes)
    corners = torch.tensor(boxes).view(-1, 4)
    return Target(corners, torch.full((count,), label), torch.zeros(count, dtype=torch.bool), torch.ones(count))


def where_the_object_is(model: YOLO, maps: dict[str, Tensor]) -> tuple[float, float, float, float]:
    raw, grid = flatten_maps(maps, model.specs)
    box = grid.decode(raw[0, :, :4])[int(raw[0, :, 4].argmax())].tolist()
    return (box[0], box[1], box[2], box[3])


def test_the_divergence_is_zero_for_equal_probabilities_and_ln_2_for_a_doubt() -> None:
    wanted = torch.tensor([0.5, 0.25, 1.0, 0.0])
    logits = torch.tensor([0.0, -math.log(3), 0.0, 0.0])
    assert bernoulli_divergence(logits, wanted).tolist() == pytest.approx([0, 0, math.log(2), math.log(2)], abs=1e-6)


def test_an_unlabelled_old_object_is_no_background_and_is_kept() -> None:
    old, student = detector(2), detector(3)
    answering(old, 0)
    maps = answering(student, 0)
    plain = student.loss(maps, [target()], (64, 64))
    losses = IncrementalTraining(student, old, CLASSES)(IMAGES, [target()])
    background = 39 * math.log1p(math.exp(-SURE))  # of the other predictions
    assert plain["loss_objectness"].item() == pytest.approx(background + SURE, abs=0.01)
    assert losses["loss_objectness"].item() <= background  # without that of predictions inside the object
    assert losses["loss_kept"].item() == pytest.approx(math.log1p(math.exp(-SURE)), abs=1e-3)  # that it is not new
    answering(student, None)
    forgotten = IncrementalTraining(student, old, CLASSES)(IMAGES, [target()])["loss_kept"].item()
    certainty, little = 1 / (1 + math.exp(-SURE)), 1 / (1 + math.exp(SURE))
    total = certainty + 39 * little
    # The divergence of .0025 from .9975 is SURE * (.9975 - .0025): that of objectness, and weighted that of the class.
    assert forgotten == pytest.approx(SURE * (certainty - little) * (1 + certainty) / total, rel=1e-3)
    doubled = IncrementalTraining(student, old, CLASSES, weight=2)(IMAGES, [target()])["loss_kept"].item()
    assert doubled == pytest.approx(2 * forgotten)


def test_what_the_old_network_calls_a_labelled_object_is_not_kept() -> None:
    old, student = detector(2), detector(3)
    answering(old, 0)
    maps = answering(student, 2)
    box = where_the_object_is(student, maps)
    losses = IncrementalTraining(student, old, CLASSES)(IMAGES, [target(box)])
    assert losses["loss_kept"].item() < 0.01
    plain = student.loss(maps, [target(box)], (64, 64))
    assert all(torch.equal(losses[name], loss) for name, loss in plain.items())


def test_objects_of_old_classes_that_have_labels_are_learnt_from_them_alone() -> None:
    classes = AddedClasses(("bright", "dark", "gray"), (0, 1, 2), (2, 0), kept=(1,), new=(2,))
    old, student = detector(2), detector(3)
    answering(old, 0)
    answering(student, None)
    losses = IncrementalTraining(student, old, classes)(IMAGES, [target()])
    assert losses["loss_kept"].item() < 0.01


def test_the_old_network_is_neither_trained_nor_saved() -> None:
    old, student = detector(2), detector(3)
    module = IncrementalTraining(student, old, CLASSES)
    assert len(list(module.parameters())) == len(list(student.parameters()))
    assert not any(parameter.requires_grad for parameter in old.parameters()) and not old.training
