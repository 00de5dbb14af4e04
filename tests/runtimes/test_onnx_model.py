"""ONNX files are what old readers open, and compute the same in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.runtimes.small import random_images, small_detector
from yolofpn.errors import UserError
from yolofpn.runtimes.onnx import ONNX
from yolofpn.runtimes.onnx_model import TRACED_OPSET, make_portable, store_in_half
from yolofpn.runtimes.openvino import OpenVINO
from yolofpn.shipped import default_graph
from yolofpn.weights import load_weights

onnxruntime = pytest.importorskip("onnxruntime")
SIZE = (64, 96)


def half_detector() -> Any:
    """Every weight is a number of fp16, as in the default weights."""
    detector, _ = small_detector()
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.copy_(parameter.half())
    return detector


@pytest.fixture(scope="module")
def model() -> Any:
    return ONNX.convert(half_detector(), SIZE)


def run(path: Path, images: NDArray[Any]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: images})
    return outputs


def opencv(path: Path, images: NDArray[Any]) -> list[NDArray[np.float32]]:
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(images.astype(np.float32))
    names = [output.name for output in onnx.load(path).graph.output]
    return [np.asarray(output) for output in network.forward(names)]


def openvino(path: Path, images: NDArray[Any]) -> list[NDArray[np.float32]]:
    compiled = OpenVINO.library().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(images)
    return [found[index] for index in range(len(found))]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["fp32", "fp16"])
@pytest.mark.parametrize("reader", [run, opencv, openvino])
def test_every_reader_computes_what_pytorch_does(model: Any, storage: str, reader: Any, tmp_path: Path) -> None:
    """In fp16 as well, since the kernels are kept as they were before the factors of batch norm were multiplied in."""
    detector, written = half_detector(), onnx.ModelProto()
    written.CopyFrom(model)
    if storage == "fp16":
        ONNX.compress(written, detector)
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, tmp_path / "a.onnx")
    images = random_images(1, *SIZE)
    with torch.inference_mode():
        expected = list(detector.dense(images).values())
    for found, own in zip(reader(tmp_path / "a.onnx", images.numpy()), expected, strict=True):
        np.testing.assert_allclose(found, own.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_opencv_reads_the_default_weights(tmp_path: Path) -> None:
    """Their network pads by repeating the border, and resizes."""
    weights, path = load_weights("auto"), default_graph() or tmp_path / "default.onnx"
    size = weights.metadata.input.size
    if not path.is_file():
        onnx.save(ONNX.convert(weights.detector, size), path)
    images = random_images(1, *size)
    with torch.inference_mode():
        expected = list(weights.detector.dense(images).values())
    for found, own in zip(opencv(path, images.numpy()), expected, strict=True):
        np.testing.assert_allclose(found, own.numpy(), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_the_file_is_old_small_and_says_nothing_of_this_machine(model: Any) -> None:
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (8, [("", 17)])
    content = model.SerializeToString()
    assert str(Path(__file__).parents[2]).encode() not in content and b"File " not in content
    assert not {node.op_type for node in model.graph.node} & {"Shape", "Identity", "Constant"}
    halves = onnx.ModelProto()
    halves.CopyFrom(model)
    ONNX.compress(halves, half_detector())
    assert halves.ByteSize() < 0.6 * model.ByteSize()


def one_node(operator: str, inputs: dict[str, NDArray[Any]], opset: int = TRACED_OPSET, **attributes: Any) -> Any:
    """x [1, 2, 4, 4] -> y, of unknown shape."""
    node = helper.make_node(operator, ["x", *inputs], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in inputs.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("Pad", {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 1])}, {"mode": "edge"}),
        ("ReduceMean", {"axes": np.array([2, 3])}, {"keepdims": 1}),
        ("ReduceMax", {"axes": np.array([1])}, {"keepdims": 0}),
        ("Split", {}, {"num_outputs": 1, "axis": 1}),
    ],
)
def test_operators_are_lowered(
    operator: str, inputs: dict[str, NDArray[Any]], attributes: dict[str, Any], tmp_path: Path
) -> None:
    model = one_node(operator, inputs, **attributes)
    onnx.save(model, tmp_path / "new.onnx")
    make_portable(model, 17)
    onnx.save(model, tmp_path / "old.onnx")
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
    (new,), (old,) = run(tmp_path / "new.onnx", x), run(tmp_path / "old.onnx", x)
    np.testing.assert_array_equal(old, new)


def test_an_operator_that_the_opset_lacks_is_named() -> None:
    with pytest.raises(UserError, match=r"Mish.* --opset 18"):
        make_portable(one_node("Mish", {}), 17)
    make_portable(one_node("Mish", {}), 18)
    with pytest.raises(UserError, match="LayerNormalization"):
        make_portable(one_node("LayerNormalization", {"scale": np.ones(4, np.float32)}), 16)


def test_what_fp16_cannot_hold_stays_as_it_is() -> None:
    large = np.full((40, 40), 1e6, np.float32)
    model = one_node("MatMul", {"large": large, "unused": np.full((40, 40), 0.1, np.float32)})
    store_in_half(model, {})
    stored = {each.name: each.data_type for each in model.graph.initializer}
    assert stored == {"large": TensorProto.FLOAT, "unused_fp16": TensorProto.FLOAT16}
