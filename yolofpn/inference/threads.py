"""One set of threads per processor, not one per library."""

from __future__ import annotations

import cv2
import torch

from yolofpn.graphs.backend import Backend
from yolofpn.graphs.libraries import num_threads


def share_processors(backend: Backend, device: torch.device) -> None:
    """Let the network's library have the processors: what works beside it does so in one thread each.

    For programs, such as our doors: these are settings of the whole process. OMP_NUM_THREADS bounds all of them.

    Args:
        backend: what runs the network.
        device: where.
    """
    beside = 1 if device.type == "cpu" else num_threads()
    cv2.setNumThreads(beside)
    if backend.name != "torch":
        torch.set_num_threads(1)
