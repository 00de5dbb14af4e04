"""A network built from a Darknet cfg, for inference."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch import Tensor, nn

from yolofpn.darknet.cfg import DarknetCfg
from yolofpn.darknet.darknet_layers import Convolution, FullyConnected, Implicit, Norm, Shortcut, build_layer
from yolofpn.darknet.layer_plan import NETWORK_INPUT, plan_network, size_divisor
from yolofpn.darknet.outputs import map_specs, num_classes
from yolofpn.darknet.sections import Softmax
from yolofpn.darknet.weights_file import (
    MODERN_EPS,
    LoadedLayers,
    LooseNumbers,
    NormEps,
    WeightLayer,
    WeightsFile,
    norm_eps_of,
    open_weights,
    read_layers,
)
from yolofpn.detector import size_fits
from yolofpn.errors import UserError
from yolofpn.models.postprocess import postprocess_maps
from yolofpn.models.two_stage.proposals import Proposals, propose_from_maps
from yolofpn.structures import Detections, Limits, Target
from yolofpn.text import command
from yolofpn.types import RawMaps


class DarknetNetwork(nn.Module):
    """The layers of a cfg; a ``Detector``, or a classifier if the cfg ends with [softmax].

    It stays in evaluation mode, and its parameters have no gradients.

    Args:
        cfg: the parsed file.
        limits: which predictions become detections.
        norm_eps: what batch norm adds to the variance or its root; see ``norm_eps_of``.

    Attributes:
        plan: the layers with their output sizes at the cfg's input size.
        input_size: (height, width) that the cfg asks for.
        own_size: ``input_size`` where it is no multiple of ``size_divisor`` and can be taken all the same, else None.
        specs: how each raw map is read, by the number of its layer; empty for a classifier.

    Raises:
        UserError: if the layers do not fit together.
    """

    needs_proposals = False
    class_agnostic = False
    is_graph = False
    second_stage = None

    def __init__(self, cfg: DarknetCfg, *, limits: Limits | None = None, norm_eps: NormEps = MODERN_EPS) -> None:
        super().__init__()
        self.cfg = cfg
        self.limits = limits or Limits()
        self.plan = plan_network(cfg)
        self.input_size = (cfg.net.height, cfg.net.width)
        self.size_divisor = size_divisor(self.plan)
        self.layers = nn.ModuleList(build_layer(layer, norm_eps) for layer in self.plan)
        self.own_size = self.input_size if any(side % self.size_divisor for side in self.input_size) else None
        self.specs = map_specs(self.plan, self.input_size)
        self.num_classes = num_classes(self.plan)
        self._last_use = {index: layer.cfg.index for layer in self.plan for index in layer.inputs}
        self.requires_grad_(False)
        self.eval()

    @property
    def is_classifier(self) -> bool:
        """Whether the network is an image classifier."""
        return not self.specs

    def weight_layers(self) -> list[WeightLayer]:
        """Return the layers with a kernel, in the order of a weights file."""
        return [layer for layer in self.stored_layers() if isinstance(layer, WeightLayer)]

    def stored_layers(self) -> list[WeightLayer | LooseNumbers]:
        """Return all layers of a weights file, in its order."""
        kinds = Convolution | FullyConnected | Norm | Implicit | Shortcut
        found = [layer.weight_layer for layer in self.layers if isinstance(layer, kinds)]
        return [layer for layer in found if layer is not None]

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> {"82": [B, A * (5 + C), H/32, W/32], ...}.

        Raises:
            UserError: if the network is a classifier.
            ValueError: if H or W is no multiple of ``size_divisor``, and they are not the cfg's.
        """
        if self.is_classifier:
            raise UserError(f"{self.cfg.origin}: is a classifier, it finds no boxes: {command('classify')} takes it")
        height, width = images.shape[-2:]
        if not size_fits(self, (height, width)):
            raise ValueError(f"an input of {width} x {height} is not a multiple of {self.size_divisor}")
        return self._run(images, set(self.specs))

    def class_probabilities(self, images: Tensor) -> Tensor:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> [B, C], each row's sum 1.

        Raises:
            UserError: if the network is a detector.
        """
        if not self.is_classifier:
            raise UserError(f"{self.cfg.origin}: is a detector, not a classifier: use {command('detect')}")
        last = str(max(layer.cfg.index for layer in self.plan if isinstance(layer.cfg.section, Softmax)))
        return self._run(images, {last})[last].flatten(1)

    def postprocess(
        self,
        dense: RawMaps,
        image_sizes: list[tuple[int, int]],
        limits: Limits | None = None,
        regions: list[tuple[int, int]] | None = None,
    ) -> list[Detections]:
        """Convert raw outputs to detections in network pixels, clipped to each image's (height, width).

        ``regions`` are the (height, width) of what the images show without padding, for NMS by distance.
        """
        return postprocess_maps(dense, self.specs, self.num_classes, image_sizes, limits or self.limits, regions)

    def propose(self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]]) -> list[Proposals]:
        """Convert raw outputs to class-agnostic proposals in network pixels."""
        return propose_from_maps(dense, self.specs, self.num_classes, image_sizes)

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Detections]:
        """Return the detections of each image in network pixels.

        Raises:
            UserError: if ``targets`` are given: such a network is not trained here.
        """
        if targets is not None:
            raise UserError(
                f"{self.cfg.origin}: a network built from a Darknet cfg is for inference only: "
                "train cfg/yolofpn.yaml, which takes the weights of yolov3"
            )
        return self.postprocess(self.dense(images), [(images.shape[-2], images.shape[-1])] * len(images))

    def train(self, mode: bool = True) -> Self:
        """Keep evaluation mode."""
        return super().train(False)

    def _network_input(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] RGB in 0..255 -> [B, channels, H, W] in 0..1."""
        images = images / 255
        if self.cfg.net.channels == 3:
            return images
        red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
        return blue + 0.299 * (red - blue) + 0.587 * (green - blue)  # of gray images exactly their gray

    def _run(self, images: Tensor, wanted: set[str]) -> dict[str, Tensor]:
        maps = {NETWORK_INPUT: self._network_input(images)}
        outputs: dict[str, Tensor] = {}
        for planned, layer in zip(self.plan, self.layers, strict=True):
            index = planned.cfg.index
            out = layer(*(maps[source] for source in planned.inputs))
            if str(index) in wanted:
                outputs[str(index)] = out
            if index in self._last_use:
                maps[index] = out
            for source in set(planned.inputs):
                if self._last_use[source] == index:
                    del maps[source]
        return outputs


def load_darknet_network(
    cfg: DarknetCfg,
    weights: str | Path | bytes | WeightsFile,
    *,
    limits: Limits | None = None,
    norm_eps: NormEps | None = None,
    complete_only: bool = False,
) -> tuple[DarknetNetwork, LoadedLayers]:
    """Build the network of ``cfg`` and load a ``.weights`` file; also return how many layers were loaded.

    The epsilon of batch norm is that of the program that wrote the file, unless ``norm_eps`` is given.
    The file size is compared with the cfg before memory is allocated.

    Raises:
        UserError: if the cfg's layers do not fit together, the file cannot be read, or it does not fit the cfg; with
            ``complete_only`` also if it ends after some of the layers.
    """
    file = weights if isinstance(weights, WeightsFile) else open_weights(weights)
    counts = [layer.numbers for layer in plan_network(cfg) if layer.numbers]
    held = file.layers_held(counts)
    if complete_only and held < len(counts):
        raise UserError(
            f"{file.origin}: holds the first {held} of {len(counts)} layers of {cfg.origin}: "
            "it can start a training, but cannot detect"
        )
    network = DarknetNetwork(cfg, limits=limits, norm_eps=norm_eps or norm_eps_of(file.header))
    return network, read_layers(file, network.stored_layers())
