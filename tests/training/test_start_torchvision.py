"""Torchvision's names in both spellings, COCO's 91 outputs, and what is refused."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from yolofpn.cli.convert import main
from yolofpn.config import ModelConfig
from yolofpn.data.class_names import COCO_CATEGORY_IDS, COCO_NAMES
from yolofpn.errors import UserError
from yolofpn.training.start_torchvision import is_torchvision_detector, torchvision_detector
from yolofpn.weights import load_weights

pytestmark = pytest.mark.slow

CFG = """
model:
  backbone: {type: resnet, depth: 18, norm: frozen}
  neck: {type: add, levels: [2, 3, 4, 5], channels: 8}
  head:
    type: rcnn
    channels: 8
    anchors: {sizes: [[32], [64], [128], [256], [512]]}
    roi: {width: 12}
input: {size: [64, 96], resize: shortest-edge}
"""


def cfg_file(folder: Path) -> str:
    (folder / "small.yaml").write_text(CFG)
    return str(folder / "small.yaml")


@cache
def torchvision_state(outputs: int, *, old_spelling: bool) -> dict[str, Tensor]:
    """A small detector with torchvision's names, written down by hand; every number is another one.

    For reading only.
    """
    shapes: dict[str, tuple[int, ...]] = {"backbone.body.conv1.weight": (64, 3, 7, 7)}
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes |= {f"backbone.body.bn1.{kind}": (64,) for kind in norm} | {"backbone.body.bn1.num_batches_tracked": ()}
    width = 64
    for stage in range(1, 5):
        out = 32 * 2**stage
        for block in range(2):
            place = f"backbone.body.layer{stage}.{block}."
            shapes |= {f"{place}conv1.weight": (out, width, 3, 3), f"{place}conv2.weight": (out, out, 3, 3)}
            shapes |= {f"{place}bn{n}.{kind}": (out,) for n in (1, 2) for kind in norm}
            if width != out:
                shapes |= {f"{place}downsample.0.weight": (out, width, 1, 1)}
                shapes |= {f"{place}downsample.1.{kind}": (out,) for kind in norm}
            width = out
        inner, layer = (
            f"backbone.fpn.{kind}_blocks.{stage - 1}" + ("" if old_spelling else ".0") for kind in ("inner", "layer")
        )
        shapes |= {f"{inner}.weight": (8, out, 1, 1), f"{inner}.bias": (8,)}
        shapes |= {f"{layer}.weight": (8, 8, 3, 3), f"{layer}.bias": (8,)}
    conv = "rpn.head.conv" + ("" if old_spelling else ".0.0")
    layers: dict[str, tuple[int, ...]] = {
        conv: (8, 8, 3, 3),
        "rpn.head.cls_logits": (3, 8, 1, 1),
        "rpn.head.bbox_pred": (12, 8, 1, 1),
    }
    roi = "roi_heads.box_head.fc6", "roi_heads.box_head.fc7"
    layers |= {roi[0]: (12, 8 * 49), roi[1]: (12, 12), "roi_heads.box_predictor.cls_score": (outputs, 12)}
    layers |= {"roi_heads.box_predictor.bbox_pred": (4 * outputs, 12)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def small_model(**changes: object) -> ModelConfig:
    head = {"type": "rcnn", "anchors": {"sizes": [[32]]}}
    neck = {"type": "add", "levels": [4], "top_down": False}
    return ModelConfig.model_validate(
        {"backbone": {"type": "resnet", "depth": 18}, "neck": neck, "head": head, **changes}
    )


def test_every_number_of_a_coco_file_has_its_place(tmp_path: Path) -> None:
    state = torchvision_state(91, old_spelling=False)
    torch.save(state, tmp_path / "tv.pth")
    output = tmp_path / "out.safetensors"
    assert main([str(tmp_path / "tv.pth"), str(output), "--cfg", cfg_file(tmp_path), "model.norm_eps=0"]) == 0
    loaded = load_weights(output)
    assert loaded.metadata.names == COCO_NAMES
    assert loaded.metadata.category_ids == COCO_CATEGORY_IDS
    assert loaded.metadata.model is not None and loaded.metadata.model.norm_eps == 0
    ours = loaded.detector.state_dict()
    given = [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]
    assert len(ours) == len(given)
    # Each number once: those of the class layers in another order, all others tensor by tensor.
    layers = [name for name in ours if name.startswith(("head.box.classes.", "head.box.deltas."))]
    theirs = [name for name in state if name.startswith("roi_heads.box_predictor.")]
    assert len(layers) == len(theirs) == 4
    numbers = [torch.cat([each[name].flatten() for name in names]) for each, names in ((ours, layers), (state, theirs))]
    assert torch.equal(*(each.sort().values for each in numbers))
    whole = [
        Counter(tensor.numpy().tobytes() for name, tensor in each.items() if name not in (*layers, *theirs))
        for each in (ours, state)
    ]
    whole[1].subtract(
        tensor.numpy().tobytes() for name, tensor in state.items() if name.endswith("num_batches_tracked")
    )
    assert whole[0] == whole[1]
    assert torch.equal(ours["neck.p2.lateral.weight"], state["backbone.fpn.inner_blocks.0.0.weight"])
    assert torch.equal(ours["neck.p5.smooth.bias"], state["backbone.fpn.layer_blocks.3.0.bias"])
    assert torch.equal(ours["backbone.layer4.1.conv2.weight"], state["backbone.body.layer4.1.conv2.weight"])


def test_both_spellings_are_the_same() -> None:
    states = (torchvision_state(91, old_spelling=old_spelling) for old_spelling in (False, True))
    new, old = (torchvision_detector(state, small_model(), "tv.pth").state for state in states)
    assert new.keys() == old.keys() and all(torch.equal(tensor, old[name]) for name, tensor in new.items())


def test_classes_are_found_by_their_id() -> None:
    state = torchvision_state(91, old_spelling=False)
    found = torchvision_detector(state, small_model(), "tv.pth")
    scores, boxes = (state[f"roi_heads.box_predictor.{layer}.weight"] for layer in ("cls_score", "bbox_pred"))
    ours, our_boxes = found.state["head.box.classes.weight"], found.state["head.box.deltas.weight"]
    assert torch.equal(ours[0], scores[0])  # the background
    for name, category_id in (("person", 1), ("stop sign", 13), ("dining table", 67), ("toothbrush", 90)):
        row = 1 + COCO_NAMES.index(name)
        assert torch.equal(ours[row], scores[category_id])
        assert torch.equal(our_boxes[4 * row : 4 * row + 4], boxes[4 * category_id : 4 * category_id + 4])
    assert torch.equal(ours[81:], scores[[12, 26, 29, 30, 45, 66, 68, 69, 71, 83]])


def test_other_classes_need_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torchvision_state(3, old_spelling=False), tmp_path / "tv.pth")
    arguments = [str(tmp_path / "tv.pth"), str(tmp_path / "out.safetensors"), "--cfg", cfg_file(tmp_path)]
    assert main(arguments) == 2
    assert "has 2 classes: --names takes a file with their 2 names" in capsys.readouterr().err
    (tmp_path / "my.names").write_text("cat\ndog\n")
    assert main([*arguments, "--names", str(tmp_path / "my.names")]) == 0
    assert load_weights(tmp_path / "out.safetensors").metadata.names == ("cat", "dog")


def test_what_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torchvision_state(91, old_spelling=False)
    assert is_torchvision_detector(state)
    assert not is_torchvision_detector({"layer1.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="place"):
        torchvision_detector({**state, "roi_heads.mask_head.x": torch.zeros(1)}, small_model(), "tv.pth")
    yolo = small_model(head={"type": "yolo", "anchors": [[[10, 10]]]})
    with pytest.raises(UserError, match="head"):
        torchvision_detector(state, yolo, "tv.pth")
    torch.save(state, tmp_path / "tv.pth")
    arguments = [str(tmp_path / "tv.pth"), str(tmp_path / "out.safetensors")]
    assert main(arguments) == 2
    assert "--cfg" in capsys.readouterr().err
    assert main([*arguments, "model.norm_eps=0"]) == 2
    assert "overrides need --cfg" in capsys.readouterr().err


def test_a_file_that_lacks_a_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torchvision_state(91, old_spelling=False)
    torch.save({name: state[name] for name in state if name != "rpn.head.bbox_pred.bias"}, tmp_path / "tv.pth")
    assert main([str(tmp_path / "tv.pth"), str(tmp_path / "out.safetensors"), "--cfg", cfg_file(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "lacks 1 of the network's tensors, first 'head.rpn.deltas.bias'" in error and error.count("\n") <= 2


PREDICTOR = "roi_heads.box_predictor"


@pytest.mark.parametrize(
    ("missing", "first"),
    [
        *((name, name) for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")),
        ("", "cls_score.bias"),  # all of the second stage: an RPN alone
    ],
)
def test_files_without_the_last_layers(missing: str, first: str) -> None:
    state = torchvision_state(91, old_spelling=False)
    start = f"{PREDICTOR}.{missing}" if missing else "roi_heads."
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(start)}
    assert len(rest) < len(state)
    with pytest.raises(UserError, match=f"lacks '{PREDICTOR}.{first}'"):
        torchvision_detector(rest, small_model(), "tv.pth")
