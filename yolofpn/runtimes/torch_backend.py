"""PyTorch itself, with batch norm folded and the arithmetic that the device is fast at."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from yolofpn.detector import Detector, blank_images, smallest_input
from yolofpn.devices import precision_name
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.runtimes.fold import cast_inside, fold_norms
from yolofpn.runtimes.full_precision import full_precision


class DensePart(nn.Module):
    """A detector's ``dense`` as the ``forward`` of a module, for everything that compiles or exports modules."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See ``Detector.dense``."""
        return self.detector.dense(images)


class TorchBackend:
    """A ``Backend``: works on a folded copy, so that the detector itself stays as it is.

    Args:
        detector: whose dense part is run.
        device: where.
        dtype: of the convolutions, except the last of each map, whose results are float32.
        compile: let torch.compile write kernels for it (on CUDA recorded as a CUDA graph): seconds to minutes at the
            first batch of each size, less time for each batch from then on.
    """

    name = "torch"

    def __init__(
        self, detector: Detector, device: torch.device, dtype: torch.dtype = torch.float32, *, compile: bool = False
    ) -> None:
        self.device = device
        self.precision = precision_name(dtype)
        self.slots = 2 if device.type == "cuda" else 1
        part = fold_norms(DensePart(detector))
        if dtype != torch.float32:
            cast_inside(part, dtype, output_convolutions(part))
        part.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._run: Any = part
        self._reuses_outputs = compile and device.type == "cuda"
        if compile and device.type == "cuda":
            self._run = torch.compile(part, mode="reduce-overhead")
        elif compile:  # weights are constants of the kernels, which may then lay them out as they like
            self._run = torch.compile(part, options={"freezing": True})

    @torch.inference_mode()
    def start(self, batch: Batch) -> Wait:
        """On a GPU the work is queued, on the CPU it is done when this returns."""
        with full_precision(self.device, self.precision):
            maps = cast("dict[str, Tensor]", self._run(torch.as_tensor(batch).to(self.device, non_blocking=True)))
        if self._reuses_outputs:  # a CUDA graph writes to the same memory every time
            maps = {name: raw.clone() for name, raw in maps.items()}
        maps = {name: raw.float() for name, raw in maps.items()}
        return lambda: maps


@torch.inference_mode()
def output_convolutions(part: DensePart) -> set[nn.Module]:
    """The convolutions whose results are the maps themselves."""
    results: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors are kept, so that no id is used twice

    def remember(module: nn.Module, _inputs: object, result: Tensor) -> None:
        results[id(result)] = (module, result)

    hooks = [module.register_forward_hook(remember) for module in part.modules() if isinstance(module, nn.Conv2d)]
    device = next(part.parameters()).device
    maps = part(blank_images(part.detector, smallest_input(part.detector), device=device))
    for hook in hooks:
        hook.remove()
    return {results[id(raw)][0] for raw in maps.values() if id(raw) in results}
