from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest
import torch

from tests.graphs.fakes import MeanBackend
from tests.inference.backends.small import small_detector
from yolofpn.inference.backends.torch_backend import TorchBackend
from yolofpn.inference.threads import share_processors, sharing_processors

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


def test_pytorch_keeps_its_threads_where_it_runs_the_network() -> None:
    torch.set_num_threads(2)
    share_processors(TorchBackend(small_detector()[0], CPU), CPU)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 2)


def test_beside_another_library_pytorch_has_one_thread() -> None:
    torch.set_num_threads(2)
    share_processors(MeanBackend(), CPU)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)


def test_beside_a_gpu_opencv_has_what_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.inference.threads.num_threads", lambda: 2)
    share_processors(TorchBackend(small_detector()[0], CPU), torch.device("cuda"))
    assert cv2.getNumThreads() == 2


def test_threads_are_given_back() -> None:
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    with pytest.raises(ValueError, match="broken off"), sharing_processors(MeanBackend(), CPU):
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)
        raise ValueError("broken off")
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (2, 2)
