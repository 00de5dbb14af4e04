"""What runs a detector: decided by machine and weights, never by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtimes.small import random_images, small_detector
from yolofpn.errors import UserError
from yolofpn.inference import torch_network
from yolofpn.inference.running_network import Choice
from yolofpn.inference.torch_network import choose_backend, tuned_key, used_libraries
from yolofpn.runtimes import backends, cache, takeover
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.backends import BackendBuilder, Verdict
from yolofpn.runtimes.openvino import OpenVINO
from yolofpn.runtimes.parity import Parity
from yolofpn.runtimes.takeover import Takeover
from yolofpn.runtimes.tuned import Tuned, write_tuned

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SIZE = (64, 96)


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOFPN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def openvino_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_network, "is_installed", lambda module: module == "openvino")


def choice_of(**settings: Any) -> Choice:
    detector, metadata = small_detector()
    return choose_backend(detector, metadata, [SIZE], CPU, **settings)


def builder() -> BackendBuilder:
    detector, metadata = small_detector()
    return BackendBuilder(detector, metadata, [SIZE], CPU)


def assert_same_maps(backend: Backend) -> None:
    detector, _ = small_detector()
    images = random_images()
    with torch.inference_mode():
        expected = detector.dense(images)
    for name, raw in backend.start(images)().items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-4, atol=1e-4)


def test_pytorch_runs_until_a_graph_is_made_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next run that is long begins with it."""
    monkeypatch.setattr(takeover, "PATIENCE", 0.0)
    monkeypatch.setattr(OpenVINO, "convert", None)  # nothing is converted in this process
    first = choice_of(workload="many").backend
    assert isinstance(first, Takeover)
    assert (first.name, first.precision, first.slots) == ("torch", "fp32", 1)
    assert_same_maps(first)  # begins the making, and does not wait for it
    assert first.name == "torch"
    told: list[str] = []
    first.when_taken_over(lambda: told.append(first.name))
    first.settle()
    assert (first.name, first.precision, told) == ("openvino", "fp32", ["openvino"])
    assert_same_maps(first)
    again = choice_of(workload="many")
    assert not isinstance(again.backend, Takeover) and again.backend.name == "openvino"
    assert_same_maps(again.backend)
    assert not list(cache.graph_folder().glob("*.work"))


def test_nothing_is_made_for_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover.Preparation, "start", None)  # would fail if it were called
    for workload in ("few", "live", "many"):
        detector, metadata = small_detector(seed=7)
        chosen = choose_backend(detector, metadata, [SIZE], CPU, workload=workload)
        assert (chosen.backend.name, chosen.backend.precision) == ("torch", "fp32")
        chosen.backend.start(random_images())()


def test_a_graph_that_differs_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackendBuilder, "known_verdict", lambda *_: Verdict(False, "boxes within 3 px"))
    found = choice_of(workload="many")
    assert not isinstance(found.backend, Takeover) and found.backend.name == "torch"
    assert "boxes within 3 px" in found.note


def test_a_graph_that_cannot_be_made_leaves_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "file"))
    backend = choice_of(workload="many").backend
    assert isinstance(backend, Takeover)
    assert backend.settle().name == "torch"
    assert isinstance(backend._preparation.failure, UserError)
    with pytest.raises(UserError, match="graphs"):
        choice_of(backend="openvino")


def test_the_choice_does_not_depend_on_the_past() -> None:
    """Neither on what was converted before, nor on what is written about it where a run is short."""
    before = choice_of()
    assert choice_of(backend="openvino").backend.name == "openvino"
    after = choice_of()
    assert (before.note, before.backend.name) == (after.note, after.backend.name)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_less_precision_is_only_taken_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("yolofpn.devices.is_fast_at_bf16", lambda _: True)
    assert choice_of(backend=name).backend.precision == "fp32"
    assert choice_of(backend=name, precision="bf16").backend.precision == "bf16"


def test_what_a_given_backend_differs_by_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "boxes within" in choice_of(backend="openvino").note
    monkeypatch.setattr(backends, "compare_backends", lambda *_: Parity(100, 0.9, 1.0, 0.1, 0.5))
    monkeypatch.setattr(cache, "read_verdict", lambda _: None)
    monkeypatch.setattr(cache, "write_verdict", lambda *_: None)
    assert "NOT within the tolerance" in choice_of(backend="openvino").note


def test_what_would_be_faster_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_network, "is_installed", lambda _: False)
    found = choice_of(workload="many")
    assert found.note == "backend: torch fp32 on cpu; pip install '.[openvino]' would be faster here"


def test_onnx_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_network, "is_installed", lambda module: module == "onnxruntime")
    assert "onnx takes over" in choice_of(workload="many").note
    assert choice_of(workload="many", precision="bf16").note == "backend: torch bf16 on cpu"
    monkeypatch.setattr(torch_network, "is_installed", lambda _: True)
    assert "openvino takes over" in choice_of().note


def test_runtimes_for_phones_are_used_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_network, "is_installed", lambda module: module in ("ncnn", "ai_edge_litert"))
    assert choice_of(workload="many").note.startswith("backend: torch fp32 on cpu; pip install ")


def test_images_of_many_sizes_stay_in_pytorch() -> None:
    detector, metadata = small_detector()
    chosen = choose_backend(detector, metadata, [(50, 70)], CPU, workload="live", sizes_vary=True)
    assert chosen.backend.name == "torch" and not isinstance(chosen.backend, Takeover)


def tune(**choice: Any) -> None:
    write_tuned(tuned_key(builder()), Tuned(libraries=used_libraries(), report="9.0 ms", **choice))


def test_what_was_tuned_is_taken_by_every_run_that_asks_for_nothing() -> None:
    try:
        tune(backend="torch", precision="bf16")
        for workload in ("few", "many"):
            found = choice_of(workload=workload)
            assert (found.backend.name, found.backend.precision) == ("torch", "bf16")
            assert found.note == "backend: torch bf16 (as tuned: 9.0 ms)"
        assert choice_of(precision="fp32").backend.precision == "fp32"
        assert choice_of(backend="torch").backend.precision == "fp32"
        other, metadata = small_detector(seed=1)
        assert choose_backend(other, metadata, [SIZE], CPU).backend.precision == "fp32"
    finally:
        write_tuned(tuned_key(builder()), None)
    assert choice_of().backend.precision == "fp32"


@pytest.mark.parametrize(
    "choice",
    [
        {"backend": "openvino", "precision": "int8", "graphs": ("gone",)},
        {"backend": "openvino", "precision": "int8"},
        {"backend": "torch", "precision": "bf16", "libraries": "torch 1.0"},
    ],
    ids=["graph gone", "no such graph", "other versions"],
)
def test_what_was_tuned_is_left_where_it_does_not_fit_any_more(choice: dict[str, Any]) -> None:
    try:
        write_tuned(tuned_key(builder()), Tuned(**{"libraries": used_libraries(), **choice}))
        found = choice_of()
        assert (found.backend.name, found.backend.precision) == ("torch", "fp32")
        assert "yolofpn tune again" in found.note
    finally:
        write_tuned(tuned_key(builder()), None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int8"}, "int8 needs images.* export --format"),
        ({"backend": "onnx", "precision": "bf16"}, "onnx backend computes in fp32 only, not bf16"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        choice_of(**settings)


def test_graphs_run_on_the_cpu_only() -> None:
    detector, metadata = small_detector()
    with pytest.raises(UserError, match="runs"):
        choose_backend(detector, metadata, [SIZE], torch.device("cuda"), backend="openvino")


@pytest.mark.parametrize("settings", [{"backend": "tensorrt"}, {"precision": "fp8"}])
def test_unknown_names_are_errors_of_the_caller(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is none of auto"):
        choice_of(**settings)
