"""Shares the CPU cores between libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from yolofpn.hardware import num_threads
from yolofpn.inference.predictor import Predictor
from yolofpn.opencv import cv2
from yolofpn.runtimes.exported import ExportedDetector
from yolofpn.runtimes.takeover import Takeover


def share_processors(predictor: Predictor) -> None:
    """Give the CPU cores to the library that runs the network; other libraries use one thread.

    A second stage is a network too, which PyTorch runs whatever runs the first one. For programs, such as the commands:
    these are settings of the whole process. OMP_NUM_THREADS bounds all of them.
    """
    cv2.setNumThreads(1 if predictor.device.type == "cpu" else num_threads())
    if isinstance(predictor.detector, ExportedDetector):  # nothing of it runs in PyTorch, which may be missing
        return
    import torch

    from yolofpn.runtimes.second_stage import has_second_stage

    if has_second_stage(predictor.detector):
        return
    if isinstance(predictor.backend, Takeover):  # by the thread that then has its work done elsewhere
        predictor.backend.when_taken_over(partial(torch.set_num_threads, 1))
    elif predictor.backend.name != "torch":
        torch.set_num_threads(1)


@contextmanager
def sharing_processors(predictor: Predictor) -> Iterator[None]:
    """Context manager of ``share_processors``, for running several backends alternately."""
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    share_processors(predictor)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
