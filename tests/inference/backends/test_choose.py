from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.inference.backends.small import pictures, small_detector
from tests.inference.backends.test_second_stage import DARKNET, MLP, make
from yolofpn.errors import UserError
from yolofpn.graphs.backend import Backend
from yolofpn.inference.backends import cache, choose, convert
from yolofpn.inference.backends.choose import Choice, choose_backend
from yolofpn.inference.backends.parity import Parity

CPU = torch.device("cpu")
SIZE = (64, 96)
MILLISECONDS = {"torch fp32": 10.0, "torch bf16": 9.0, "openvino fp32": 3.0, "openvino bf16": 2.0, "onnx fp32": 4.0}


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOFPN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """How fast the backends are said to be; and what was found out in other tests is forgotten."""
    milliseconds, verdicts = dict(MILLISECONDS), dict[str, dict[str, Any]]()
    monkeypatch.setattr(choose, "_milliseconds", lambda backend, _: milliseconds[f"{backend.name} {backend.precision}"])
    monkeypatch.setattr(cache, "read_verdict", verdicts.get)
    monkeypatch.setattr(cache, "write_verdict", verdicts.__setitem__)
    monkeypatch.setattr(choose, "is_fast_at_bf16", lambda _: False)
    return milliseconds


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_installed", lambda module: module == "openvino")


def choice_of(**settings: Any) -> Choice:
    detector, metadata = small_detector()
    return choose_backend(detector, metadata, [SIZE], CPU, **settings)


def assert_same_maps(backend: Backend) -> None:
    detector, _ = small_detector()
    images = pictures()
    with torch.inference_mode():
        expected = detector.dense(images)
    for name, raw in backend.start(images)().items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("without_onnx")
def test_auto_makes_a_graph_for_many_pictures_once_and_then_takes_it_for_one(
    speed: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = choice_of()
    assert first.backend.name == "torch" and "a video would make a faster graph" in first.note
    many = choice_of(workload="many")
    assert (many.backend.name, many.backend.precision) == ("openvino", "fp32")
    assert many.note == "backend: openvino fp32 (the fastest here: 3.0 ms per picture, PyTorch 10.0 ms)"
    assert_same_maps(many.backend)
    monkeypatch.setattr(convert, "to_openvino", None)  # would fail if anything were converted again
    again = choice_of()
    assert (again.backend.name, again.backend.slots) == ("openvino", 1)
    speed["openvino fp32"] = 11.0
    assert choice_of(workload="live").backend.name == "openvino"  # what is known is not measured again


@pytest.mark.usefixtures("without_onnx")
def test_auto_keeps_pytorch_where_it_is_faster_or_the_graph_finds_something_else(
    speed: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    speed["openvino fp32"] = 11.0
    assert choice_of(workload="many").backend.name == "torch"
    speed["openvino fp32"] = 1.0
    monkeypatch.setattr(choose, "compare_backends", lambda *_: Parity(100, 0.9, 1.0, 0.1, 0.5))
    monkeypatch.setattr(cache, "read_verdict", lambda _: None)
    other = choice_of(workload="many")
    assert (other.backend.name, other.backend.precision) == ("torch", "fp32")
    asked = choice_of(backend="openvino")
    assert asked.backend.name == "openvino" and "NOT what PyTorch finds" in asked.note


@pytest.mark.usefixtures("speed", "without_onnx")
def test_bf16_is_taken_where_it_is_fast_and_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_fast_at_bf16", lambda _: True)
    passing = Parity(100, 1.0, 0.01, 0.01, 0.01)
    monkeypatch.setattr(choose, "compare_backends", lambda *_: passing)
    assert choice_of(workload="many").backend.precision == "bf16"
    assert choice_of(backend="torch", workload="many").backend.precision == "bf16"
    assert choice_of(backend="torch", precision="fp32").backend.precision == "fp32"


@pytest.mark.usefixtures("speed", "without_onnx")
def test_bf16_is_left_where_it_finds_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_fast_at_bf16", lambda _: True)

    def compare(_detector: Any, _reference: Any, backend: Backend, *_: Any) -> Parity:
        return Parity(100, 0.9 if backend.precision == "bf16" else 1.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(choose, "compare_backends", compare)
    assert choice_of(backend="torch", workload="many").backend.precision == "fp32"
    assert choice_of(backend="torch").backend.precision == "fp32"
    assert choice_of(workload="many").note.startswith("backend: openvino fp32")
    assert choice_of(backend="openvino").backend.precision == "fp32"


@pytest.mark.usefixtures("speed")
def test_what_would_be_faster_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_installed", lambda _: False)
    found = choice_of(workload="many")
    assert found.note == "backend: torch fp32 on cpu; pip install '.[openvino]' would be faster here"


@pytest.mark.usefixtures("speed")
def test_auto_asks_onnx_for_nothing_but_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_installed", lambda module: module == "onnxruntime")
    for precision in ("bf16", "fp16"):
        assert choice_of(workload="many", precision=precision).backend.precision == precision
    assert choice_of(workload="many", precision="fp32").backend.name == "onnx"


@pytest.mark.usefixtures("speed", "without_onnx")
def test_auto_stays_with_pytorch_where_no_graph_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "file"))
    found = choice_of(workload="many")
    assert found.note.startswith("backend: torch fp32 on cpu; no graph could be made: ")
    assert "cannot keep graphs (Not a directory)" in found.note
    with pytest.raises(UserError, match="cannot keep graphs"):
        choice_of(backend="openvino")


@pytest.mark.usefixtures("speed")
def test_pictures_of_many_sizes_stay_in_pytorch() -> None:
    assert choice_of(workload="many", sizes_vary=True).backend.name == "torch"


@pytest.mark.usefixtures("speed", "without_onnx")
def test_bounds_of_varying_sizes_need_not_fit_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_fast_at_bf16", lambda _: True)
    detector, metadata = small_detector()
    chosen = choose_backend(detector, metadata, [(50, 70)], CPU, workload="live", sizes_vary=True)
    assert chosen.backend.name == "torch"


@pytest.mark.usefixtures("speed", "without_onnx")
def test_damaged_weights_stay_in_pytorch_where_the_run_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_fast_at_bf16", lambda _: True)
    detector, metadata = small_detector(seed=1)
    next(detector.parameters()).data[0] = torch.nan
    chosen = choose_backend(detector, metadata, [SIZE], CPU, backend="torch", workload="many")
    assert (chosen.backend.name, chosen.backend.precision) == ("torch", "fp32")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int8"}, "int8 needs pictures.*export.py"),
        ({"backend": "onnx", "precision": "bf16"}, "onnx backend computes in fp32 only, not bf16"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        choice_of(**settings)


@pytest.mark.usefixtures("speed")
def test_onnx_is_tried_where_nothing_shorter_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_fast_at_bf16", lambda _: True)
    monkeypatch.setattr(choose, "is_installed", lambda module: module == "onnxruntime")
    passing = {"bf16": 0.9, "fp32": 1.0}

    def compare(_detector: Any, _reference: Any, backend: Backend, *_: Any) -> Parity:
        return Parity(100, passing[backend.precision], 0.0, 0.0, 0.0)

    monkeypatch.setattr(choose, "compare_backends", compare)
    monkeypatch.setattr(cache, "read_verdict", lambda _: None)
    assert choice_of(workload="many").backend.name == "onnx"
    passing["bf16"] = 1.0
    assert choice_of(workload="many").backend.name == "torch"


@pytest.mark.usefixtures("speed")
def test_a_library_that_fails_does_not_keep_auto_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(convert, "to_onnx", fail)
    assert choice_of(workload="many").backend.name == "openvino"
    monkeypatch.setattr(convert, "to_openvino", fail)
    found = choice_of(workload="many", precision="fp32")
    assert found.backend.name == "openvino"  # its graph is there already


@pytest.mark.usefixtures("speed", "without_onnx")
def test_a_known_graph_that_cannot_be_made_again_leaves_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choice_of(workload="many").backend.name == "openvino"

    def fail(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(cache, "cached_graph", fail)
    found = choice_of()
    assert found.backend.name == "torch" and "no graph could be made: no such operator" in found.note


def test_a_second_stage_has_the_processors_between_two_passes() -> None:
    detector, metadata = make(DARKNET, MLP)
    found = choose_backend(
        detector, metadata, [(64, 96)], torch.device("cpu"), backend="openvino", precision="fp32", workload="many"
    )
    assert (found.backend.name, found.backend.slots) == ("openvino", 1)


def test_graphs_run_on_the_cpu_only() -> None:
    detector, metadata = small_detector()
    with pytest.raises(UserError, match="runs on the CPU only"):
        choose_backend(detector, metadata, [SIZE], torch.device("cuda"), backend="openvino")


@pytest.mark.parametrize("settings", [{"backend": "tensorrt"}, {"precision": "fp8"}])
def test_unknown_names_are_errors_of_the_caller(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is none of auto"):
        choice_of(**settings)
