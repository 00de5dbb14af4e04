from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.runtimes.small import random_images, small_detector
from yolofpn.detector import Detector
from yolofpn.runtimes import conversion, runtime_named
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.openvino import OpenVINO, OpenVINOGraph, quantize

pytestmark = pytest.mark.slow

SIZE = (64, 96)


@pytest.fixture(scope="module")
def graphs(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small detector as a graph of each kind, for any number of images."""
    path = tmp_path_factory.mktemp("graphs") / "small.onnx"
    model = onnx.load(exported["onnx"])  # two at a time, which only the sizes of inputs and outputs say
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)
    return {"openvino": exported["openvino"], "onnx": path}


def run(kind: str, path: Path, names: list[str], size: tuple[int, int], **settings: Any) -> Backend:
    return runtime_named(kind).open(lambda _: path, names, size, settings.pop("precision", "fp32"), **settings)


def assert_close(detector: Detector, backend: Backend, images: torch.Tensor, tolerance: float = 1e-5) -> None:
    with torch.inference_mode():
        expected = detector.dense(images)
    found = backend.start(images)()
    assert list(found) == list(expected)
    for name, raw in found.items():
        assert raw.dtype == np.float32
        scale = float(expected[name].abs().max())
        np.testing.assert_allclose(raw / scale, expected[name].numpy() / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("fp16", "f16"), ("int8", "f32")])
def test_openvino_is_always_told_the_precision(
    graphs: dict[str, Path], precision: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own default is bf16 on some processors, where it may be slower, and differs."""
    names, given = conversion.map_names(small_detector()[0]), []
    library = OpenVINO.library()
    compile_model = library.Core.compile_model

    def noted(core: Any, model: Any, device: str, config: dict[str, Any]) -> Any:
        given.append(config["INFERENCE_PRECISION_HINT"])
        return compile_model(core, model, device, config | {"INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(library.Core, "compile_model", noted)
    run("openvino", graphs["openvino"], names, SIZE, precision=precision)
    assert given == [hint]


def test_int8_ranges_are_signed_where_a_map_has_negative_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def noted(model: str, _: object, **settings: object) -> str:
        given.append(settings)
        return model

    nncf = SimpleNamespace(
        QuantizationPreset=SimpleNamespace(MIXED="mixed"), Dataset=list, quantize=noted, set_log_level=lambda _: None
    )
    monkeypatch.setattr("yolofpn.runtimes.openvino.import_extra", lambda *_: nncf)
    assert quantize("model", list(random_images(2))) == "model"
    assert given == [{"preset": "mixed", "subset_size": 2}]


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_graphs_compute_what_pytorch_does(graphs: dict[str, Path], kind: str) -> None:
    detector, _ = small_detector()
    backend = run(kind, graphs[kind], conversion.map_names(detector), SIZE)
    assert (backend.name, backend.precision, backend.slots) == (kind, "fp32", 1)
    for batch in (1, 3, 2):  # the last one is smaller than what was made ready
        assert_close(detector, backend, random_images(batch, seed=batch))


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_images_may_lie_in_memory_in_any_order(graphs: dict[str, Path], kind: str) -> None:
    detector, _ = small_detector()
    images = random_images().to(memory_format=torch.channels_last)
    assert not images.is_contiguous()
    assert_close(detector, run(kind, graphs[kind], conversion.map_names(detector), SIZE), images)


def test_a_small_batch_after_a_large_one_is_not_filled_up(
    graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, _ = small_detector()
    backend = run("openvino", graphs["openvino"], conversion.map_names(detector), SIZE)
    assert isinstance(backend, OpenVINOGraph)
    assert_close(detector, backend, random_images(8))
    computed: list[int] = []
    run_one = backend._run

    def noted(compiled: Any, batch: Any) -> Any:
        computed.append(compiled.batch)
        return run_one(compiled, batch)

    monkeypatch.setattr(backend, "_run", noted)
    for count, batches in (1, [1]), (3, [1, 1, 1]), (4, [1, 1, 1, 1]), (5, [8]), (8, [8]):
        assert_close(detector, backend, random_images(count, seed=count))
        assert computed == batches
        computed.clear()


def test_batches_in_flight_do_not_mix(graphs: dict[str, Path]) -> None:
    detector, _ = small_detector()
    backend = run("openvino", graphs["openvino"], conversion.map_names(detector), SIZE, throughput=True)
    assert backend.slots >= 2  # one runs, one waits
    images = [random_images(1, seed=seed) for seed in range(6)]
    waits = [backend.start(each) for each in images]
    for each, wait in reversed(list(zip(images, waits, strict=True))):
        with torch.inference_mode():
            expected = detector.dense(each)
        for name, raw in wait().items():
            np.testing.assert_allclose(raw, expected[name].numpy(), rtol=1e-3, atol=1e-4)


def test_two_threads_that_convert_lose_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    stdout, level, filters = sys.stdout, logging.root.manager.disable, list(warnings.filters)
    inside = threading.Barrier(2)

    def work(name: str) -> None:
        inside.wait()
        for _ in range(20):
            with conversion.quiet():
                print(f"the converter of {name} says something")
                time.sleep(0.001)
            print(f"{name} is heard")

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stdout is stdout and logging.root.manager.disable == level and warnings.filters == filters
    printed = capsys.readouterr().out
    assert "converter" not in printed
    # A thread that is heard while the other one converts writes through what that one put in place.
    assert sorted(printed.split()) == sorted(["one", "is", "heard", "two", "is", "heard"] * 20)
