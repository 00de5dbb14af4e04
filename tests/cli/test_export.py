from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch

from tests.commands import call
from tests.full_disk import room_for
from tests.runtimes.small import NAMES
from yolofpn import load_detector
from yolofpn.cli.detect import main as detect
from yolofpn.cli.export import main
from yolofpn.errors import UserError
from yolofpn.inference import export_graph
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.runtimes.onnx import ONNX
from yolofpn.runtimes.openvino import OpenVINO
from yolofpn.runtimes.parity import Parity
from yolofpn.runtimes.runtime import METADATA_KEY
from yolofpn.structures import Image
from yolofpn.weights import load_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(exported: dict[str, Path]) -> Path:
    return exported["weights"]


@pytest.fixture(scope="module")
def graphs(exported: dict[str, Path]) -> dict[str, Path]:
    return exported


def spots(seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(20, axis=0).repeat(25, axis=1))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_the_graph_finds_what_the_weights_find(graphs: dict[str, Path], weights: Path, kind: str) -> None:
    graph, own = load_detector(graphs[kind]), load_detector(weights, backend="torch", precision="fp32")
    assert graph.backend.name == kind
    assert (graph.names, graph.img_size, graph.resize) == (NAMES, (64, 96), "letterbox")
    images = [spots(seed) for seed in range(5)]
    total = 0
    for batch_size in (1, 3):
        for one, other in zip(graph(images, batch_size=batch_size), own(images, batch_size=batch_size), strict=True):
            assert one.labels.tolist() == other.labels.tolist()
            torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.1)
            torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)
            assert one.category_ids == (5, 6, 7)
            total += len(one)
    assert total > 10


def test_what_a_graph_cannot_do_is_said(graphs: dict[str, Path], tmp_path: Path) -> None:
    path = graphs["onnx"]
    with pytest.raises(UserError, match="64x96, not 96x96"):
        load_detector(path, img_size=96)(spots(0))
    with pytest.raises(UserError, match="holds fp32, not bf16"):
        load_detector(path, precision="bf16")
    with pytest.raises(UserError, match="backend"):
        load_detector(path, backend="torch")
    with pytest.raises(UserError, match="evaluated"):
        load_weights(path)
    with pytest.raises(UserError, match="inference only"):
        load_for_inference(path).detector(torch.zeros(1, 3, 64, 96), targets=[])


def test_damaged_and_foreign_graphs_are_refused(graphs: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(graphs["onnx"].read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        load_for_inference(cut)
    lonely = tmp_path / "lonely.xml"
    lonely.write_bytes(graphs["openvino"].read_bytes())
    with pytest.raises(UserError, match="numbers"):
        load_for_inference(lonely)
    model = onnx.load(graphs["onnx"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="detector"):
        load_for_inference(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_one_flipped_bit_of_a_weight_is_noticed(
    graphs: dict[str, Path], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / graphs[kind].name
    for file in graphs[kind].parent.glob(f"{graphs[kind].stem}.*"):
        shutil.copy(file, tmp_path)
    numbers = path if kind == "onnx" else path.with_suffix(".bin")
    content = bytearray(numbers.read_bytes())
    middle = len(content) // 2
    if kind == "onnx":
        kernels = (entry.raw_data for entry in onnx.load(path).graph.initializer)
        kernel = max(kernels, key=len)
        middle = content.find(kernel) + len(kernel) // 2
    content[middle] ^= 1
    numbers.write_bytes(content)
    flags = ["--weights", path, "--media", "none", "--output", tmp_path / "out"]
    cv2.imwrite(str(tmp_path / "a.png"), spots(0))
    outcome = call(detect, capsys, tmp_path / "a.png", *flags)
    assert outcome.code == 2 and "is not as it was exported" in outcome.err
    content[middle] ^= 1
    numbers.write_bytes(content)
    assert call(detect, capsys, tmp_path / "a.png", *flags).code == 0


def test_graphs_of_older_versions_still_open(graphs: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(graphs["onnx"])
    info = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    assert len(info.pop("sha256")) == 64
    del info["metadata"]["input"]["depth"]
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(info)})
    onnx.save(model, tmp_path / "old.onnx")
    boxes = [load_detector(path)(spots(0)).boxes for path in (tmp_path / "old.onnx", graphs["onnx"])]
    torch.testing.assert_close(*boxes)


def test_a_graph_that_finds_something_else_is_not_left_behind(
    weights: Path, graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(ONNX, "convert", lambda *_: onnx.load(graphs["onnx"]))
    monkeypatch.setattr(export_graph, "compare_backends", lambda *_: Parity(100, 0.93, 4.0, 0.09, 0.1))
    output = tmp_path / "out" / "x.onnx"
    outcome = call(main, capsys, "--weights", weights, "--format", "onnx", "--batch", "2", output)
    assert outcome.code == 2
    assert "x.onnx: not written, as its detections differ: 93.0% of 100 detections" in outcome.err
    assert list((tmp_path / "out").iterdir()) == []


def test_darknet_files_are_written_together_and_read_back(weights: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "x.weights"
    outcome = call(main, capsys, "--weights", weights, "--format", "darknet", output)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.cfg", "x.names", "x.weights"]
    assert "100.0%" in outcome.out or "raw maps within" in outcome.out
    darknet, own = load_detector(output, backend="torch"), load_detector(weights, backend="torch")
    assert (darknet.names, darknet.img_size, darknet.resize) == (NAMES, (64, 96), "letterbox")
    one, other = darknet(spots(1)), own(spots(1))
    assert one.labels.tolist() == other.labels.tolist() and len(one) > 0
    torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.1)


def test_a_darknet_network_is_written_for_the_size_that_was_asked_for(
    weights: Path, tmp_path: Path, capsys: Any
) -> None:
    first, second = tmp_path / "a.weights", tmp_path / "b.weights"
    assert call(main, capsys, "--weights", weights, "--format", "darknet", first).code == 0
    same = call(main, capsys, "--weights", first, "--format", "darknet", second)
    assert same.code == 0 and second.with_suffix(".cfg").read_text() == first.with_suffix(".cfg").read_text()
    words = ("--img-size", "128x64", "--resize", "stretch")
    assert call(main, capsys, "--weights", first, "--format", "darknet", *words, second).code == 0
    written = load_detector(second, backend="torch")
    assert (written.img_size, written.resize) == ((128, 64), "stretch")
    before, after = (path.with_suffix(".cfg").read_text().splitlines() for path in (first, second))
    assert len(before) == len(after) and len(set(before) ^ set(after)) == 6  # width, height, letter_box


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "darknet", "--batch", "4", "x.weights"], "--batch does not apply"),
        (["--format", "onnx", "x.xml"], "x.xml: the output file must end in .onnx"),
        (["--format", "onnx", "--precision", "bf16", "x.onnx"], "--format onnx holds fp32 or fp16, not bf16"),
        (
            ["--format", "openvino", "--precision", "int8", "x.xml"],
            "int8 and --calibration DATA must be given together",
        ),
        (
            ["--format", "openvino", "--calibration", "d", "x.xml"],
            "int8 and --calibration DATA must be given together",
        ),
        (["--format", "onnx", "--img-size", "65", "x.onnx"], "65x65 is not a multiple of 32"),
        (["--format", "onnx", "--batch", "0", "x.onnx"], "--batch: '0' is not a positive integer"),
        (["x.onnx"], "the following arguments are required: --format"),
    ],
)
def test_bad_requests_are_refused(weights: Path, words: list[str], message: str, capsys: Any, tmp_path: Path) -> None:
    *flags, name = words
    outcome = call(main, capsys, "--weights", weights, *flags, tmp_path / name)
    assert outcome.code == 2
    assert message.replace("x.xml", str(tmp_path / "x.xml")) in outcome.err
    assert list(tmp_path.iterdir()) == []


def changed_info(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a graph file says of itself."""
    if path.suffix == ".onnx":
        model = onnx.load(path)
        info = json.loads(model.metadata_props[0].value)
        change(info)
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(info)})
        onnx.save(model, path)
        return
    openvino = OpenVINO.library()

    model = openvino.Core().read_model(path)
    info = json.loads(str(model.get_rt_info(METADATA_KEY).value))
    change(info)
    model.set_rt_info(json.dumps(info), METADATA_KEY)
    openvino.save_model(model, path.with_name("new.xml"), compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        path.with_name(f"new{suffix}").replace(path.with_suffix(suffix))


def without_last_output(path: Path) -> None:
    if path.suffix == ".onnx":
        model = onnx.load(path)
        del model.graph.output[-1]
        onnx.save(model, path)
        return
    openvino = OpenVINO.library()

    model = openvino.Core().read_model(path)
    info = str(model.get_rt_info(METADATA_KEY).value)
    fewer = openvino.Model(model.outputs[:-1], model.get_parameters())
    fewer.set_rt_info(info, METADATA_KEY)
    openvino.save_model(fewer, path.with_name("new.xml"), compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        path.with_name(f"new{suffix}").replace(path.with_suffix(suffix))


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "stride": lambda info: info["maps"]["p3"].update(stride=16),
    "anchors": lambda info: info["maps"]["p4"]["anchors"].reverse(),
    "coding": lambda info: info["maps"]["p5"].update(scale_x_y=1.75),
    "map skipped": lambda info: info["maps"].pop("p5"),
    "no maps": lambda info: info["maps"].clear(),
    "order": lambda info: info.update(maps=dict(reversed(info["maps"].items()))),
    "size": lambda info: info["metadata"]["input"].update(size=[96, 64]),
    "batch": lambda info: info.update(batch=5),
    "classes": lambda info: info["metadata"].update(names=["cat", "dog"], category_ids=[]),
    "another network": lambda info: info["metadata"]["model"]["head"].update(
        anchors=[[[9, 9]], [[20, 20]], [[40, 40]]]
    ),
}


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("change", [*CHANGES, "output skipped"])
def test_graphs_that_are_not_what_they_say_are_refused(
    graphs: dict[str, Path], tmp_path: Path, kind: str, change: str, capsys: Any
) -> None:
    for file in graphs[kind].parent.glob(f"{graphs[kind].stem}.*"):
        shutil.copy(file, tmp_path / file.name)
    path = tmp_path / graphs[kind].name
    changed_info(path, lambda _: None)
    load_for_inference(path)  # writing it again alone changes nothing
    if change in CHANGES:
        changed_info(path, CHANGES[change])
    else:
        without_last_output(path)
    with pytest.raises(UserError) as error:
        load_for_inference(path)
    assert str(error.value).startswith(f"{path}: ") and "export it again" in str(error.value)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_full_disk_leaves_nothing_half(
    weights: Path, graphs: dict[str, Path], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    output = tmp_path / "out" / ("x.onnx" if kind == "onnx" else "x.xml")
    monkeypatch.setattr(ONNX, "convert", lambda *_: onnx.load(graphs["onnx"]))
    monkeypatch.setattr(OpenVINO, "convert", lambda *_: OpenVINO.library().Core().read_model(graphs[kind]))
    batch = ["--batch", "2"] if kind == "onnx" else []
    with room_for(100_000):
        outcome = call(main, capsys, "--weights", weights, "--format", kind, *batch, output)
    assert outcome.code == 2
    assert f"{output}: cannot be written" in outcome.err and len(outcome.err.splitlines()) <= 2
    assert list((tmp_path / "out").iterdir()) == []
