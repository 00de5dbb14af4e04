"""From one-stage weights to a two-stage detector and back: backbone and neck stay, the heads take turns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.cases import make_target
from yolofpn.config import Config, Metadata
from yolofpn.models.build import NativeDetector, build_model
from yolofpn.training.start import read_starting_weights, take_over
from yolofpn.weights import save_weights

NAMES = ("cat", "dog", "cow")
BACKBONE = {"type": "darknet", "width": 0.0625, "depth": 0.1}
ONE_STAGE = {"type": "yolo", "anchors": [[[8, 8]], [[16, 16]], [[32, 32]]]}
TWO_STAGE = {
    "type": "rcnn",
    "channels": 8,
    "anchors": {"sizes": [[8], [16], [32], [64], [128]]},
    "rpn": {"post_nms_top_n": [50, 30]},
    "roi": {"width": 16},
}
SHARED = ("backbone.", "neck.p3.", "neck.p4.", "neck.p5.")


def configs() -> tuple[Config, Config]:
    """The one-stage model, and the two-stage one whose neck has level 2 as well."""
    one, two = (
        Config.model_validate(
            {
                "model": {"backbone": BACKBONE, "neck": {"type": "concat", "levels": levels}, "head": head},
                "input": {"size": [64, 64]},
            }
        )
        for levels, head in (([3, 4, 5], ONE_STAGE), ([2, 3, 4, 5], TWO_STAGE))
    )
    return one, two


def make(config: Config, names: tuple[str, ...] = NAMES) -> NativeDetector:
    return build_model(config.model, len(names), config.input, config.postprocess)


def save(path: Path, model: NativeDetector, config: Config, names: tuple[str, ...] = NAMES) -> str:
    save_weights(path, model.state_dict(), Metadata(model=config.model, input=config.input, names=names))
    return str(path)


def shared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in state.items()
        if name.startswith(SHARED) and not name.endswith("num_batches_tracked")
    }


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() and len(one) > 50
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def train_a_step(model: NativeDetector) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    losses = model.train()(images, [make_target([(5, 9, 40, 50)], [1]), make_target([(20, 20, 60, 44)], [2])])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.slow
def test_both_heads_learn_on_one_neck_in_turn(tmp_path: Path) -> None:
    one_stage, two_stage = configs()
    torch.manual_seed(0)
    first = make(one_stage)
    train_a_step(first)
    second = make(two_stage)
    line = take_over(
        second, NAMES, (), read_starting_weights(save(tmp_path / "one.safetensors", first, one_stage), two_stage.model)
    )
    assert_equal(shared(first.state_dict()), shared(second.state_dict()))
    assert line.endswith("fresh: neck.p2, head.project, head.rpn, head.box")
    assert "classes" not in line  # the one-stage head's are of no use here

    train_a_step(second)
    assert not torch.equal(
        first.state_dict()["neck.p5.block.0.conv.weight"], second.state_dict()["neck.p5.block.0.conv.weight"]
    )
    third = make(one_stage)
    take_over(
        third, NAMES, (), read_starting_weights(save(tmp_path / "two.safetensors", second, two_stage), one_stage.model)
    )
    assert_equal(shared(second.state_dict()), shared(third.state_dict()))
    train_a_step(third)


@pytest.mark.slow
def test_two_stage_class_outputs_come_by_name(tmp_path: Path) -> None:
    _, config = configs()
    roi = config.model.head.model_dump()["roi"] | {"unused_outputs": 2}
    tree = config.model_dump()
    tree["model"]["head"]["roi"] = roi
    with_unused = Config.model_validate(tree)
    source, names = make(with_unused), ("dog", "horse", "cat")
    model = make(config, names)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    spec = save(tmp_path / "two.safetensors", source, with_unused)
    line = take_over(model, names, (), read_starting_weights(spec, config.model))
    assert "4 in part: 2 of 3 classes are known, by name" in line
    given, taken = source.state_dict(), model.state_dict()
    for layer, rows in (("classes", 1), ("deltas", 4)):
        for kind in ("weight", "bias"):
            name = f"head.box.{layer}.{kind}"
            theirs, ours, old = (state[name].split(rows) for state in (given, taken, before))
            assert torch.equal(ours[0], theirs[0])  # the background
            assert torch.equal(ours[1], theirs[2]) and torch.equal(ours[3], theirs[1])
            assert torch.equal(ours[2], old[2])  # nobody knows the horse
