"""What each backend and precision costs on real weights and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from yolofpn.data.class_names import match_classes
from yolofpn.data.layouts import open_data
from yolofpn.data.samples import to_tensor
from yolofpn.evaluation.evaluator import EVALUATION_LIMITS, relabelled
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.ops.resize import Placement, resize_image
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.conversion import map_names
from yolofpn.runtimes.onnx import ONNX, ONNXGraph
from yolofpn.runtimes.openvino import OpenVINO, OpenVINOGraph
from yolofpn.runtimes.parity import TOLERANCES, compare_backends
from yolofpn.runtimes.torch_backend import TorchBackend
from yolofpn.structures import Detections, Target
from yolofpn.weights import LoadedWeights, load_weights

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
AP_LOSS = {"fp32": 0.0005, "bf16": 0.005, "fp16": 0.005, "int8": 0.02}


@dataclass(frozen=True)
class Scene:
    """A network, the images of coco128 as it sees them, and what PyTorch finds in full precision."""

    loaded: LoadedWeights
    inputs: list[Tensor]
    placements: list[Placement]
    targets: list[Target]
    mapping: tuple[int | None, ...]
    names: tuple[str, ...]

    def average_precision(self, backend: Backend) -> float:
        metrics = DetectionMetrics(self.names)
        for image, placement, target in zip(self.inputs, self.placements, self.targets, strict=True):
            with torch.inference_mode():
                maps = backend.start(image)()
                found = self.loaded.detector.postprocess(maps, [placement.network_size], EVALUATION_LIMITS)[0]
            boxes = placement.to_image(found.boxes)
            metrics.add(relabelled(Detections(boxes, found.scores, found.labels), self.mapping), target)
        return metrics.compute().values["AP"]


@pytest.fixture(scope="module")
def scene(data_dir: Path) -> Scene:
    loaded = load_weights(data_dir / "darknet" / "yolo-fastest-1.1-xl.weights")
    dataset = open_data(data_dir / "coco128").load("all")
    match = match_classes(loaded.metadata.names, loaded.metadata.category_ids, dataset.names, dataset.category_ids)
    inputs, placements, targets = [], [], []
    for index in range(len(dataset)):
        image = dataset.image(index)
        resized, placement = resize_image(image, loaded.metadata.input.size, "stretch")
        inputs.append(to_tensor(resized[:, :, ::-1])[None])
        placements.append(placement)
        targets.append(dataset.target(index, placement.image_size))
    return Scene(loaded, inputs, placements, targets, match.mapping, dataset.names)


@pytest.fixture(scope="module")
def reference(scene: Scene) -> TorchBackend:
    return TorchBackend(scene.loaded.detector, CPU)


@pytest.fixture(scope="module")
def full_ap(scene: Scene, reference: TorchBackend) -> float:
    return scene.average_precision(reference)


@pytest.fixture(scope="module")
def backends(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backend]:
    folder, detector, size = tmp_path_factory.mktemp("graphs"), scene.loaded.detector, scene.loaded.metadata.input.size
    xml, onnx = folder / "xl.xml", folder / "xl.onnx"
    OpenVINO.save(OpenVINO.convert(detector, size), xml)
    ONNX.save(ONNX.convert(detector, size), onnx)
    names = map_names(detector)
    return {
        "torch bf16": TorchBackend(detector, CPU, torch.bfloat16),
        "torch fp16": TorchBackend(detector, CPU, torch.float16),
        "openvino fp32": OpenVINOGraph(lambda _: xml, names, size, "fp32"),
        "openvino bf16": OpenVINOGraph(lambda _: xml, names, size, "bf16"),
        "openvino fp16": OpenVINOGraph(lambda _: xml, names, size, "fp16"),
        "onnx fp32": ONNXGraph(lambda _: onnx, names, size),
    }


@pytest.mark.parametrize(
    "name", ["torch bf16", "torch fp16", "openvino fp32", "openvino bf16", "openvino fp16", "onnx fp32"]
)
def test_a_backend_finds_what_pytorch_finds(
    name: str, scene: Scene, reference: TorchBackend, backends: dict[str, Backend], full_ap: float
) -> None:
    backend = backends[name]
    tolerance = TOLERANCES[backend.precision]
    parity = compare_backends(scene.loaded.detector, reference, backend, scene.inputs, tolerance)
    assert parity.detections > 500
    assert parity.holds(tolerance), str(parity)
    assert scene.average_precision(backend) == pytest.approx(full_ap, abs=AP_LOSS[backend.precision])


def test_eight_bits_cost_little_precision(scene: Scene, full_ap: float, tmp_path: Path) -> None:
    detector, size, xml = scene.loaded.detector, scene.loaded.metadata.input.size, tmp_path / "int8.xml"
    OpenVINO.save(OpenVINO.convert(detector, size, calibration=scene.inputs[:32]), xml)
    backend = OpenVINOGraph(lambda _: xml, map_names(detector), size, "int8")
    assert "FakeQuantize" in xml.read_text()
    assert scene.average_precision(backend) == pytest.approx(full_ap, abs=AP_LOSS["int8"])
