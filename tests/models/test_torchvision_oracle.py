"""Faster R-CNN beside torchvision's own, with the same random weights under the two sets of names, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from yolofpn.config import Config, Metadata
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.structures import Detections, Limits
from yolofpn.training.start_torchvision import torchvision_detector
from yolofpn.weights import build_detector, check_state

pytestmark = pytest.mark.slow

REASON = "compares with torchvision, which is no requirement of this project: pip install torchvision"
detection: Any = pytest.importorskip("torchvision.models.detection", reason=REASON)
backbone_utils: Any = pytest.importorskip("torchvision.models.detection.backbone_utils", reason=REASON)
FrozenBatchNorm2d: Any = pytest.importorskip("torchvision.ops", reason=REASON).FrozenBatchNorm2d

CONFIG = Config.model_validate(
    {
        "model": {
            "backbone": {"type": "resnet", "depth": 18, "norm": "frozen"},
            "neck": {"type": "add", "levels": [2, 3, 4, 5], "channels": 256},
            "head": {
                "type": "rcnn",
                "channels": 256,
                "anchors": {"sizes": [[32], [64], [128], [256], [512]]},
                "roi": {"width": 1024},
            },
        },
        "input": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": "shortest-edge"},
    }
)
SIZE = (128, 160)  # height, width: as it is, nothing is resized or padded
LIMITS = Limits(score_thresh=0.05, nms_thresh=0.5, detections_per_img=10_000)
# Fresh layers say nearly nothing; with these factors scores, proposals and boxes are spread as after a training.
SPREAD = {
    "rpn.head.cls_logits": 30.0,
    "rpn.head.bbox_pred": 5.0,
    "roi_heads.box_predictor.cls_score": 12.0,
    "roi_heads.box_predictor.bbox_pred": 5.0,
}


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our network finishes in float32 what it computes in less; here it is to stay in more."""
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)


def theirs() -> nn.Module:
    torch.manual_seed(0)
    backbone = backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
    )
    model: nn.Module = detection.FasterRCNN(
        backbone,
        num_classes=91,
        min_size=min(SIZE),
        max_size=max(SIZE),
        box_score_thresh=LIMITS.score_thresh,
        box_nms_thresh=LIMITS.nms_thresh,
        box_detections_per_img=LIMITS.detections_per_img,
    )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                tensor.normal_(std=0.1)
            else:
                tensor *= SPREAD.get(name.rpartition(".")[0], 1.0)
    return model.double().eval()


def ours(state: Mapping[str, Tensor]) -> tuple[FasterRCNN, tuple[int, ...]]:
    """The network, and the id of each of its classes."""
    found = torchvision_detector(state, CONFIG.model, "torchvision")
    metadata = Metadata(model=found.model, input=CONFIG.input, names=found.names, category_ids=found.category_ids)
    detector = build_detector(metadata, "torchvision")
    assert isinstance(detector, FasterRCNN)
    check_state(detector, found.state, "torchvision")
    detector.double().load_state_dict(found.state)
    for constant, values in ((detector.normalize.mean, CONFIG.input.mean), (detector.normalize.std, CONFIG.input.std)):
        constant.copy_(torch.tensor(values, dtype=torch.float64).view(-1, 1, 1))  # they were rounded to float32
    return detector.eval(), found.category_ids


def image() -> Tensor:
    """[1, 3, H, W] of whole numbers 0..255: patches of random colours, and noise."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(1, 3, 8, 10, generator=generator, dtype=torch.float64)
    noise = torch.rand(1, 3, *SIZE, generator=generator, dtype=torch.float64)
    return ((0.8 * nn.functional.interpolate(colours, size=SIZE) + 0.2 * noise) * 255).round()


def in_order(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    order = scores.argsort(descending=True)
    return boxes[order], scores[order], labels[order]


@torch.inference_mode()
def test_the_same_detections_with_the_same_weights() -> None:
    other = theirs()
    detector, category_ids = ours(other.state_dict())
    images = image()
    (expected,) = other([images[0] / 255])
    (found,) = detector.postprocess(detector.dense(images), [SIZE], LIMITS)
    assert isinstance(found, Detections)
    # They detect ids too of which COCO has no objects.
    known = torch.isin(expected["labels"], torch.tensor(category_ids))
    boxes, scores, labels = in_order(*(expected[name][known] for name in ("boxes", "scores", "labels")))
    assert len(scores) >= 50 and len(set(labels.tolist())) >= 5
    own_boxes, own_scores, own_labels = in_order(*found.torch().values())
    assert torch.equal(torch.tensor(category_ids)[own_labels], labels)
    torch.testing.assert_close(own_scores.double(), scores, rtol=0, atol=1e-7)
    torch.testing.assert_close(own_boxes.double(), boxes, rtol=0, atol=1e-4)
