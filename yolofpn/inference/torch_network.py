"""A detector in PyTorch ready to run, by whatever backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from yolofpn.config import Metadata
from yolofpn.detector import Detector
from yolofpn.devices import choose_device
from yolofpn.inference.choose import choose_backend
from yolofpn.inference.network import Network
from yolofpn.inference.options import PredictorOptions
from yolofpn.runtimes.fold import for_inference
from yolofpn.runtimes.full_precision import full_precision
from yolofpn.runtimes.second_stage import prepare_postprocess


def open_network(
    detector: Detector,
    metadata: Metadata,
    sizes: Sequence[tuple[int, int]],
    options: PredictorOptions,
    *,
    sizes_vary: bool,
) -> Network:
    """The detector on its device, with the backend that suits it.

    Args:
        detector: stays as it is: a copy around its parameters runs.
        metadata: of its weights.
        sizes: every (height, width) that it will see, or bounds of them.
        options: how it is run.
        sizes_vary: images come in sizes of their own.

    Raises:
        UserError: there is no such device, or the backend cannot run it.
        ValueError: there is no such backend or precision.
    """
    device = choose_device(options.device)
    copied = for_inference(detector, device)
    choice = choose_backend(
        copied,
        metadata,
        sizes,
        device,
        backend=options.backend,
        precision=options.precision,
        workload=options.workload,
        sizes_vary=sizes_vary,
        compile=options.compile,
    )
    postprocessor = prepare_postprocess(copied, choice.backend.precision)
    return Network(copied, device, choice, postprocessor, partial(_postprocessing, device))


@contextmanager
def _postprocessing(device: torch.device, precision: str) -> Iterator[None]:
    """Of a second stage, which runs in PyTorch."""
    with torch.inference_mode(), full_precision(device, precision):
        yield
