"""The two-stage detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from yolofpn.detector import SecondStage
from yolofpn.models.layers import Normalize
from yolofpn.models.losses import Losses
from yolofpn.models.two_stage.box_head import BoxHead
from yolofpn.models.two_stage.first_stage import FirstStage
from yolofpn.models.two_stage.roi_heads import RoIHeads
from yolofpn.models.two_stage.rpn import RPNHead, RPNOutput
from yolofpn.structures import Detections, FeatureInfo, Limits, Target


class Projection(nn.Module):
    """1x1 convolutions that give all levels the same number of channels, as the heads are shared by all levels.

    Args:
        feature_info: channels and stride of each level of the neck.
        channels: output channels of every level; without convolutions if all levels already have them.
    """

    def __init__(self, feature_info: Mapping[str, FeatureInfo], channels: int) -> None:
        super().__init__()
        self.feature_info = {name: FeatureInfo(channels, info.stride) for name, info in feature_info.items()}
        if all(info.channels == channels for info in feature_info.values()):
            return
        for name, info in feature_info.items():
            conv = nn.Conv2d(info.channels, channels, 1)
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            self.add_module(name, conv)

    def forward(self, pyramid: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"p3": [B, P3, H/8, W/8], ...} -> {"p3": [B, channels, H/8, W/8], ...}."""
        if not self._modules:
            return pyramid
        return {name: self.get_submodule(name)(feature) for name, feature in pyramid.items()}


class TwoStageHead(nn.Module):
    """The modules of the detector head: projection, RPN and box head."""

    def __init__(self, project: Projection, rpn: RPNHead, box: BoxHead) -> None:
        super().__init__()
        self.project = project
        self.rpn = rpn
        self.box = box


@dataclass(frozen=True)
class TwoStageRules:
    """The parameter-free operations of a two-stage detector.

    Attributes:
        first: computes losses or proposals from the outputs of the RPN.
        roi_heads: computes losses or detections from proposals.
    """

    first: FirstStage
    roi_heads: RoIHeads


class FasterRCNN(nn.Module):
    """Faster R-CNN on a feature pyramid (arXiv 1506.01497, arXiv 1612.03144); a ``Detector``.

    ``dense`` returns everything of static shape: the pyramid and the outputs of the RPN. The following steps
    depend on the number of proposals and run in PyTorch.

    Args:
        normalize: the first step of the network.
        backbone: images -> {"c2" ... "c5"}.
        neck: {"c2" ... "c5"} -> {"p2" ...}.
        head: the parts of the two stages that have weights.
        rules: the parts that have none.
        num_classes: C, without the background.
        limits: which predictions become detections.
    """

    needs_proposals = False
    class_agnostic = False
    is_graph = False

    def __init__(
        self,
        normalize: Normalize,
        backbone: nn.Module,
        neck: nn.Module,
        head: TwoStageHead,
        rules: TwoStageRules,
        num_classes: int,
        limits: Limits,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.rules = rules
        self.num_classes = num_classes
        self.limits = limits
        self.size_divisor = 32  # c5's stride
        self.feature_info = head.project.feature_info

    @property
    def second_stage(self) -> SecondStage:
        """The box head, which runs on every region."""
        channels = next(iter(self.feature_info.values())).channels
        return SecondStage(self.head.box, (channels, *self.rules.roi_heads.pooler.size))

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> the pyramid and the proposal network's maps.

        {"p2": [B, C, H/4, W/4], ..., "objectness_p2": [B, A, H/4, W/4], "deltas_p2": [B, 4 A, H/4, W/4], ...}. The
        level above the pyramid exists for the proposal network only.
        """
        maps: dict[str, Tensor] = self.head.project(self.neck(self.backbone(self.normalize(images))))
        return maps | self.rules.first.maps(self.head.rpn, maps)

    def propose(self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Run the first stage: return boxes [P, 4] in network pixels and scores [P], descending, of each image."""
        return self.rules.first.propose(self._rpn_output(dense), image_sizes)

    def postprocess(
        self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]], limits: Limits | None = None
    ) -> list[Detections]:
        """Return detections in network pixels, clipped to each image's (height, width).

        Raises:
            ValueError: if the network's output is NaN, or ``image_sizes`` are not of as many images.
        """
        proposals = [boxes for boxes, _ in self.propose(dense, image_sizes)]
        return self.rules.roi_heads.detect(
            self.head.box, self._pyramid(dense), proposals, image_sizes, limits or self.limits
        )

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Detections]:
        """Losses by name if ``targets`` (in network pixels) are given, else detections in network pixels."""
        dense = self.dense(images)
        size = (images.shape[-2], images.shape[-1])
        if targets is None:
            return self.postprocess(dense, [size] * len(images))
        return self.losses(dense, targets)

    def losses(self, dense: dict[str, Tensor], targets: Sequence[Target]) -> Losses:
        """Return the losses of both stages; no gradients flow from the second stage through the proposals."""
        first, output, whole = self.rules.first, self._rpn_output(dense), self._input_size(dense)
        image_sizes = [target.image_size or whole for target in targets]
        proposals = [boxes for boxes, _ in first.select(output, image_sizes, first.train_limits)]
        losses = first.loss(output, targets)  # samples before the second stage, as the RPN alone does
        return losses.beside(self.rules.roi_heads.losses(self.head.box, self._pyramid(dense), proposals, targets))

    def _rpn_output(self, dense: dict[str, Tensor]) -> RPNOutput:
        return self.rules.first.read(dense, self._input_size(dense))

    def _pyramid(self, dense: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: dense[name] for name in self.feature_info}

    def _input_size(self, dense: dict[str, Tensor]) -> tuple[int, int]:
        """(height, width) of the network's input, a multiple of every stride."""
        name, info = next(iter(self.feature_info.items()))
        return dense[name].shape[-2] * info.stride, dense[name].shape[-1] * info.stride
