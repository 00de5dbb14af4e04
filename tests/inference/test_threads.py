from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest
import torch

from tests.runtimes.fakes import MeanBackend
from tests.runtimes.small import small_detector
from tests.runtimes.test_second_stage import DARKNET, MLP, make
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.threads import share_processors, sharing_processors
from yolofpn.runtimes.backend import Backend


def predictor_with(backend: Backend | None = None, *, two_stages: bool = False) -> Predictor:
    """In PyTorch, unless a backend is given."""
    detector, metadata = make(DARKNET, MLP) if two_stages else small_detector()
    predictor = Predictor(detector, metadata, device="cpu", backend="torch", precision="fp32")
    if backend is not None:
        predictor.backend = backend
    return predictor


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


def test_pytorch_keeps_its_threads_where_it_runs_the_network() -> None:
    torch.set_num_threads(2)
    share_processors(predictor_with())
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 2)


def test_beside_another_library_pytorch_has_one_thread() -> None:
    torch.set_num_threads(2)
    share_processors(predictor_with(MeanBackend()))
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)


def test_pytorch_keeps_its_threads_where_it_runs_the_second_stage() -> None:
    torch.set_num_threads(2)
    share_processors(predictor_with(MeanBackend(), two_stages=True))
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 2)


def test_beside_a_gpu_opencv_has_what_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.inference.threads.num_threads", lambda: 2)
    predictor = predictor_with()
    predictor.device = torch.device("cuda")
    share_processors(predictor)
    assert cv2.getNumThreads() == 2


def test_threads_are_given_back() -> None:
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    with pytest.raises(ValueError, match="broken off"), sharing_processors(predictor_with(MeanBackend())):
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)
        raise ValueError("broken off")
    assert (cv2.getNumThreads(), torch.get_num_threads()) == (2, 2)
