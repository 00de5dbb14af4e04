"""``export.py --format triton``: a model of Triton's repository, read with Triton's own schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.tiny_detector import NAMES
from yolofpn.cli.export import main
from yolofpn.errors import UserError
from yolofpn.runtimes.onnx import ONNX
from yolofpn.runtimes.runtime import GraphForm
from yolofpn.runtimes.triton import check_name, model_config

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(weights: Path, layouts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of two models."""
    folder = tmp_path_factory.mktemp("models")
    words = ["--weights", str(weights), "--format", "triton", "--layout"]
    assert main([*words, "decoded", "--batch", "4", str(folder / "decoded")]) == 0

    def converted(_detector: object, _size: object, batch: int | None, form: GraphForm, _limits: object = None) -> Any:
        assert (batch, form.layout, form.uint8) == (1, "end2end", False)
        return onnx.load(layouts["end2end"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNX, "convert_form", converted)
        assert main([*words, "end2end", str(folder / "end2end")]) == 0
    return folder


def parsed(text: str) -> Any:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format: Any = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(text, schema.ModelConfig())  # unknown or wrong fields raise


def ports(graph: Any, kind: str) -> list[tuple[str, int, list[int]]]:
    """(name, ONNX type, sizes) as the file has them; -1 for any size."""
    found = []
    for port in getattr(graph, kind):
        tensor = port.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        found.append((port.name, tensor.elem_type, dims))
    return found


@pytest.mark.parametrize(("name", "batch"), [("decoded", 4), ("end2end", 0)])
def test_the_configuration_is_that_of_the_graph(models: Path, name: str, batch: int) -> None:
    folder = models / name
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    assert (folder / "labels.txt").read_text().splitlines() == list(NAMES)
    config = parsed((folder / "config.pbtxt").read_text())
    assert (config.name, config.platform, config.max_batch_size) == (name, "onnxruntime_onnx", batch)
    require_ports(config, folder / "1" / "model.onnx", batch)
    assert config.HasField("dynamic_batching") is bool(batch)
    if batch:
        policy = config.dynamic_batching.default_queue_policy
        assert policy.max_queue_size > 0 and policy.default_timeout_microseconds > 0


def require_ports(config: Any, path: Path, batch: int) -> None:
    types: dict[int, str] = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
    graph = onnx.load(path).graph
    for kind in ("input", "output"):
        declared = [(p.name, type(p).DESCRIPTOR, list(p.dims), p) for p in getattr(config, kind)]
        expected = ports(graph, kind)
        assert len(declared) == len(expected)
        for (port, _, dims, message), (known, number, sizes) in zip(declared, expected, strict=True):
            value = message.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[types[number]].number
            assert (port, message.data_type) == (known, value)
            assert ([-1, *dims] if batch else dims) == sizes


def test_bytes_are_declared(layouts: dict[str, Path]) -> None:
    config = parsed(model_config("bytes", layouts["bytes"], None))
    assert onnx.load(layouts["bytes"]).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    require_ports(config, layouts["bytes"], 0)


def test_a_batch_of_the_declared_size_runs(models: Path) -> None:
    session = onnxruntime.InferenceSession(models / "decoded" / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 4):
        (output,) = session.run(None, {session.get_inputs()[0].name: np.zeros((count, 3, 64, 64), np.float32)})
        assert len(output) == count


def test_raw_graphs_have_an_output_for_each_map(exported: dict[str, Path]) -> None:
    config = parsed(model_config("raw", exported["onnx"], 2))
    assert [port.name for port in config.output] == [port.name for port in onnx.load(exported["onnx"]).graph.output]
    assert all(len(port.dims) == 3 for port in config.output)


def test_names_and_folders(models: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--weights", str(weights), "--format", "triton", str(models / "decoded")]) == 2
    assert "exists" in capsys.readouterr().err
    for name in ("with space", "", "ä"):
        with pytest.raises(UserError, match="folder"):
            check_name(name)
