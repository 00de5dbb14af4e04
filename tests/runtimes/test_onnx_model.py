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


@pytest.fixture(scope="module")
def model(exported: dict[str, Path]) -> Any:
    return onnx.load(exported["onnx"])


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
    detector, written = small_detector()[0], onnx.ModelProto()
    written.CopyFrom(model)
    if storage == "fp16":
        ONNX.compress(written, detector)
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, tmp_path / "a.onnx")
    images = random_images(2, *SIZE)
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
    ONNX.compress(halves, small_detector()[0])
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
    other = np.linspace(0.1, 0.2, 1600, dtype=np.float32).reshape(40, 40)
    model = one_node("MatMul", {"large": large, "unused": other})
    store_in_half(model, {})
    stored = {each.name: each.data_type for each in model.graph.initializer}
    assert stored == {"large": TensorProto.FLOAT, "unused_stored": TensorProto.FLOAT16}


def test_multiples_of_one_number_take_a_byte_each(tmp_path: Path) -> None:
    """Row r holds -127 .. 127 times a number of fp16; one more row cannot, as 1/3 has no such number."""
    steps = np.array([0.75, 2.0**-14, 0.0859375, 1.0], np.float32)
    multiples = np.random.default_rng(0).integers(-127, 128, (4, 2, 12, 12))
    multiples[:, 0, 0, 0], multiples[:, 1, 0, 0] = 127, 1
    kernel = multiples.astype(np.float32) * steps[:, None, None, None]
    other = kernel.copy()
    other[3, 0, 0, 0] = 1 / 3
    for values, kind in ((kernel, TensorProto.INT8), (other, TensorProto.FLOAT16)):
        model = one_node("Conv", {"kernel": values}, pads=[6, 6, 6, 6])
        whole = one_node("Conv", {"kernel": values.astype(np.float16).astype(np.float32)}, pads=[6, 6, 6, 6])
        store_in_half(model, {})
        stored = {each.name: each for each in model.graph.initializer}
        assert stored["kernel_stored"].data_type == kind
        if kind == TensorProto.INT8:
            np.testing.assert_array_equal(numpy_helper.to_array(stored["kernel_stored"]), multiples)
        onnx.save(model, tmp_path / "stored.onnx")
        onnx.save(whole, tmp_path / "whole.onnx")
        x = np.random.default_rng(1).normal(size=(1, 2, 4, 4)).astype(np.float32)
        np.testing.assert_array_equal(run(tmp_path / "stored.onnx", x)[0], run(tmp_path / "whole.onnx", x)[0])


def test_numbers_that_share_nothing_are_not_split() -> None:
    """A column, each row of which is a multiple of itself."""
    model = one_node("MatMul", {"unused": np.arange(1, 2049, dtype=np.float32).reshape(-1, 1)})
    store_in_half(model, {})
    assert [each.data_type for each in model.graph.initializer] == [TensorProto.FLOAT16]
