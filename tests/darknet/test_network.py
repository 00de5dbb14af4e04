"""Networks built from a cfg against OpenCV's own reader of Darknet files."""

import re
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from yolofpn.darknet.cfg import parse_cfg, read_cfg
from yolofpn.darknet.network import DarknetNetwork, load_darknet_network
from yolofpn.darknet.sections import Softmax
from yolofpn.darknet.weights_file import NormEps, WeightLayers, open_weights, read_layers, write_layers
from yolofpn.errors import UserError
from yolofpn.structures import Detections, Limits, Target

EVERYTHING = Limits(score_thresh=0.01, nms_thresh=1.0, detections_per_img=10**6)
OPENCV_EPS = NormEps(1e-6)  # of every file, whichever program wrote it
REAL = ["yolo-fastest-1.1", "yolo-fastest-1.1-xl", "yoloface-500k", "MobileNetV2-YOLO-Fastest-voc-v2"]
TINY_DETECTOR = """[net]
width=64
height=32
[convolutional]
filters=14
size=3
stride=8
pad=1
activation=linear
[yolo]
anchors=10,20, 30,15
num=2
classes=2
"""
EVERY_SECTION = """[net]
width=64
height=64
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=mish
[maxpool]
size=2
stride=2
[convolutional]
batch_normalize=1
filters=8
size=3
groups=4
pad=1
activation=swish
[maxpool]
size=2
stride=1
[shortcut]
from=-3
[convolutional]
filters=5
size=5
padding=2
activation=logistic
[shortcut]
from=-2
activation=leaky
[route]
layers=-3
[shortcut]
from=-2
[avgpool]
[convolutional]
filters=8
size=1
activation=logistic
[scale_channels]
from=-3
[dropout]
[reorg]
stride=2
[convolutional]
filters=4
size=1
activation=relu
[upsample]
stride=2
[route]
layers=-1,1,6
[maxpool]
size=5
stride=1
[avgpool]
[connected]
output=12
activation=leaky
[connected]
output=10
activation=linear
[softmax]
"""


def random_images(height: int, width: int, batch: int = 1) -> NDArray[np.uint8]:
    """Noise, [B, 3, H, W]."""
    return np.random.default_rng(1).integers(0, 256, (batch, 3, height, width), dtype=np.uint8)


@torch.no_grad()
def fill_randomly(layers: WeightLayers) -> None:
    """Numbers that keep the maps' scale from layer to layer, with every part of batch norm at work."""
    generator = torch.Generator().manual_seed(7)
    for conv, norm in layers:
        nn.init.kaiming_normal_(conv.weight, a=0.1, generator=generator)
        if conv.bias is not None:
            nn.init.normal_(conv.bias, std=0.3, generator=generator)
        if norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.uniform_(norm.weight, 0.5, 1.0, generator=generator)
            nn.init.normal_(norm.bias, std=0.3, generator=generator)
            nn.init.normal_(norm.running_mean, std=0.3, generator=generator)
            nn.init.uniform_(norm.running_var, 0.5, 2.0, generator=generator)
    layers[-1].conv.weight *= 0.1  # a softmax over large numbers gives 0 and 1, whatever came before


def narrowed(cfg: str) -> str:
    """With an eighth of the filters, but for those that predict."""
    return re.sub(
        r"(?m)^(filters *= *)(\d+)", lambda m: m[1] + str(max(8, int(m[2]) // 8) if int(m[2]) % 8 == 0 else m[2]), cfg
    )


def raw_outputs(network: DarknetNetwork, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The maps of a detector, or a classifier's probabilities."""
    x = torch.from_numpy(images)
    with torch.inference_mode():
        if network.is_classifier:
            return [network.class_probabilities(x).numpy()]
        return [output.numpy() for output in network.dense(x).values()]


def opencv_outputs(
    cfg: Path, weights: Path, network: DarknetNetwork, images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """What OpenCV computes at the same places: the convolutions before the outputs, or the softmax."""
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    if network.is_classifier:
        names = [f"softmax_{layer.cfg.index}" for layer in network.plan if isinstance(layer.cfg.section, Softmax)]
    else:
        names = [f"conv_{int(index) - 1}" for index in network.specs]
    batches = []
    for image in images:  # one by one: OpenCV cannot run a batch through [scale_channels]
        net.setInput(image[None].astype(np.float32) / 255)
        batches.append([np.asarray(output) for output in net.forward(names)])
    outputs = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return [output.reshape(len(images), -1) for output in outputs] if network.is_classifier else outputs


def assert_close(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(a).all()
        assert np.abs(b).max() > 0
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["yolov3-tiny", "yolov2-tiny", "yolov3", "yolov3-spp", "yolov2", "darknet19", "darknet53"]
)
def test_random_weights_give_what_opencv_gives(name: str, data_dir: Path, tmp_path: Path) -> None:
    cfg_path, weights_path = tmp_path / f"{name}.cfg", tmp_path / "random.weights"
    cfg_path.write_text(narrowed((data_dir / "darknet" / "cfg" / f"{name}.cfg").read_text()))
    network = DarknetNetwork(read_cfg(cfg_path), norm_eps=OPENCV_EPS)
    fill_randomly(network.weight_layers())
    write_layers(weights_path, network.weight_layers())
    images = random_images(96, 160)
    ours = raw_outputs(network, images)
    assert not network.is_classifier or ours[0].max() < 0.9
    assert_close(ours, opencv_outputs(cfg_path, weights_path, network, images))
    again, loaded = load_darknet_network(read_cfg(cfg_path), weights_path)
    assert loaded.complete
    for (key, a), b in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_every_section_gives_what_opencv_gives(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text(EVERY_SECTION)
    network = DarknetNetwork(parse_cfg(EVERY_SECTION, "my.cfg"), norm_eps=OPENCV_EPS)
    fill_randomly(network.weight_layers())
    write_layers(tmp_path / "my.weights", network.weight_layers())
    images = random_images(64, 64)
    ours = raw_outputs(network, images)
    assert ours[0].max() < 0.5
    assert_close(ours, opencv_outputs(tmp_path / "my.cfg", tmp_path / "my.weights", network, images))


def test_a_connected_layer_takes_a_whole_map_as_in_opencv(tmp_path: Path) -> None:
    text = "[net]\nwidth=8\nheight=4\n[maxpool]\nstride=2\n[connected]\noutput=5\nactivation=leaky\n[softmax]\n"
    (tmp_path / "my.cfg").write_text(text)
    network = DarknetNetwork(parse_cfg(text, "my.cfg"))
    fill_randomly(network.weight_layers())
    write_layers(tmp_path / "my.weights", network.weight_layers())
    assert (tmp_path / "my.weights").stat().st_size == 20 + 4 * (3 * 2 * 4 * 5 + 5)
    theirs = opencv_outputs(tmp_path / "my.cfg", tmp_path / "my.weights", network, random_images(4, 8))
    assert_close(raw_outputs(network, random_images(4, 8)), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_weights_give_what_opencv_gives(name: str, data_dir: Path) -> None:
    folder = data_dir / "darknet"
    cfg = read_cfg(folder / f"{name}.cfg")
    network, loaded = load_darknet_network(cfg, folder / f"{name}.weights", norm_eps=OPENCV_EPS)
    assert loaded.complete
    images = random_images(cfg.net.height, cfg.net.width, batch=2)
    theirs = opencv_outputs(folder / f"{name}.cfg", folder / f"{name}.weights", network, images)
    assert_close(raw_outputs(network, images), theirs)


def opencv_detections(
    cfg: Path, weights: Path, images: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Labels, scores and clipped xyxy boxes of one image, as OpenCV decodes them."""
    height, width = images.shape[-2:]
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(images.astype(np.float32) / 255)
    rows = np.concatenate([np.asarray(output) for output in net.forward(net.getUnconnectedOutLayersNames())])
    index, labels = np.nonzero(rows[:, 5:])
    centres, sizes = np.split(rows[index, :4] * [width, height, width, height], 2, axis=1)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return labels, rows[index, 5 + labels], boxes.clip(0, [width, height, width, height])


def assert_contains(found: Detections, labels: NDArray[np.int64], scores: NDArray[np.float32], boxes: Any) -> None:
    """Each of OpenCV's is among ``found``."""
    for label, score, box in zip(labels, scores, boxes, strict=True):
        same_box = np.abs(found.boxes - box).max(axis=1) < 0.01
        same_score = np.abs(found.scores - score) < 1e-5
        assert (same_box & same_score & (found.labels == label)).any(), (label, score, box)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_detections_are_those_of_opencv(name: str, data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "darknet"
    cfg = read_cfg(folder / f"{name}.cfg")
    photo = np.asarray(cv2.imread(str(data_dir / "pictures" / "person.jpg")))
    image = np.asarray(cv2.resize(photo, (cfg.net.width, cfg.net.height)), dtype=np.uint8)
    images = np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)[None])
    network, _ = load_darknet_network(cfg, folder / f"{name}.weights", limits=EVERYTHING, norm_eps=OPENCV_EPS)
    found = network(torch.from_numpy(images))
    assert isinstance(found, list)

    # OpenCV zeroes scores below 0.2 and suppresses within an output unless told otherwise.
    (tmp_path / "my.cfg").write_text(cfg.text.replace("[yolo]", "[yolo]\nthresh=.01\nnms_threshold=0"))
    labels, scores, boxes = opencv_detections(tmp_path / "my.cfg", folder / f"{name}.weights", images)
    sure = scores > 0.0101  # one at the threshold may fall on either side
    assert sure.sum() > 5
    assert sure.sum() <= len(found[0]) <= len(scores) + 1
    assert_contains(found[0], labels[sure], scores[sure], boxes[sure])


@pytest.mark.slow
def test_region_is_decoded_as_by_opencv(data_dir: Path, tmp_path: Path) -> None:
    text = (data_dir / "darknet" / "cfg" / "yolov2-tiny.cfg").read_text().replace("thresh = .6", "thresh = .01")
    (tmp_path / "my.cfg").write_text(text)
    network = DarknetNetwork(parse_cfg(text, "my.cfg"), limits=EVERYTHING, norm_eps=OPENCV_EPS)
    fill_randomly(network.weight_layers())
    write_layers(tmp_path / "my.weights", network.weight_layers())
    images = random_images(96, 160)
    found = network(torch.from_numpy(images))
    assert isinstance(found, list)
    # Its own suppression cannot be switched off here, so OpenCV keeps fewer.
    labels, scores, boxes = opencv_detections(tmp_path / "my.cfg", tmp_path / "my.weights", images)
    sure = scores > 0.0101
    assert sure.sum() > 5
    assert_contains(found[0], labels[sure], scores[sure], boxes[sure])


@pytest.mark.parametrize("name", REAL)
def test_real_weights_come_back_byte_for_byte(name: str, data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "darknet" / f"{name}.weights"
    network, loaded = load_darknet_network(read_cfg(source.with_suffix(".cfg")), source)
    write_layers(tmp_path / "copy.weights", network.weight_layers(), loaded.header)
    assert (tmp_path / "copy.weights").read_bytes() == source.read_bytes()


def test_a_backbone_file_fills_the_first_layers(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "darknet" / "MobileNetV2-Nano.57"
    cfg = read_cfg(data_dir / "darknet" / "MobileNetV2-YOLOv3-Nano-coco.cfg")
    torch.manual_seed(3)
    network, loaded = load_darknet_network(cfg, source)
    torch.manual_seed(3)
    untouched = DarknetNetwork(cfg)
    # It is called .57 because it holds what Darknet counts as layers 0 to 56.
    assert loaded.loaded == sum(layer.numbers > 0 for layer in network.plan[:57])
    assert loaded.total == len(network.weight_layers())
    assert not loaded.complete
    for place, (ours, fresh) in enumerate(zip(network.weight_layers(), untouched.weight_layers(), strict=True)):
        assert torch.equal(ours.conv.weight, fresh.conv.weight) == (place >= loaded.loaded)
    write_layers(tmp_path / "copy", network.weight_layers()[: loaded.loaded], loaded.header)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_refuses_weights_of_another_cfg_before_allocating(data_dir: Path) -> None:
    # 392 + 800,000 * (14 + 1) + 800,000 * 14 + 14 numbers and 20 bytes of header
    huge = TINY_DETECTOR.replace("[yolo]", "[convolutional]\nfilters=800000\n[convolutional]\nfilters=14\n[yolo]", 1)
    with pytest.raises(UserError, match=r"holds 1,384,268 bytes, this network needs 92,801,644: truncated, or for"):
        load_darknet_network(parse_cfg(huge, "my.cfg"), data_dir / "darknet" / "yolo-fastest-1.1.weights")
    with pytest.raises(UserError, match=r"holds 1,384,268 bytes, this network needs 839,476: too long, or for"):
        cfg = read_cfg(data_dir / "darknet" / "MobileNetV2-YOLO-Fastest-voc-v2.cfg")
        load_darknet_network(cfg, data_dir / "darknet" / "yolo-fastest-1.1.weights")


def test_a_region_map_is_read_in_pixels(data_dir: Path) -> None:
    network = DarknetNetwork(read_cfg(data_dir / "darknet" / "cfg" / "yolov2-tiny.cfg"))
    spec = network.specs["15"]
    assert spec.softmax
    assert spec.stride == 32
    assert spec.anchors[0] == pytest.approx((0.57273 * 32, 0.677385 * 32))


def test_is_a_detector() -> None:
    limits = Limits(score_thresh=0.2)
    network = DarknetNetwork(parse_cfg(TINY_DETECTOR, "my.cfg"), limits=limits)
    assert (network.num_classes, network.size_divisor, network.input_size) == (2, 8, (32, 64))
    assert network.limits is limits
    assert not network.is_classifier
    for height, width in [(32, 64), (8, 8), (40, 24)]:
        dense = network.dense(torch.zeros(2, 3, height, width, dtype=torch.uint8))
        assert {name: tuple(raw.shape) for name, raw in dense.items()} == {"1": (2, 14, height // 8, width // 8)}
    assert len(network(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))) == 2


def test_float_images_count_to_255_too() -> None:
    network = DarknetNetwork(parse_cfg(TINY_DETECTOR, "my.cfg"))
    x = torch.from_numpy(random_images(32, 64))
    conv = network.weight_layers()[0].conv
    assert conv.bias is not None
    expected = nn.functional.conv2d(x.double() / 255, conv.weight.double(), conv.bias.double(), stride=8, padding=1)
    for images in (x, x.float()):
        torch.testing.assert_close(network.dense(images)["1"].double(), expected, atol=1e-5, rtol=1e-5)


def test_refuses_sizes_that_do_not_divide() -> None:
    network = DarknetNetwork(parse_cfg(TINY_DETECTOR, "my.cfg"))
    with pytest.raises(ValueError, match="an input of 60 x 32 is not a multiple of 8"):
        network.dense(torch.zeros(1, 3, 32, 60, dtype=torch.uint8))


def test_is_for_inference_only() -> None:
    network = DarknetNetwork(parse_cfg(TINY_DETECTOR, "my.cfg"))
    images = torch.zeros(1, 3, 32, 64, dtype=torch.uint8)
    nothing = Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), torch.zeros(0))
    with pytest.raises(UserError, match="inference"):
        network(images, [nothing])
    assert not network.train().training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_detector_does_not_classify_and_a_classifier_does_not_detect(data_dir: Path) -> None:
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(UserError, match="classifier"):
        DarknetNetwork(parse_cfg(TINY_DETECTOR, "my.cfg")).class_probabilities(images)
    classifier = DarknetNetwork(parse_cfg(EVERY_SECTION, "my.cfg"))
    with pytest.raises(UserError, match="classifier"):
        classifier.dense(images)
    assert (classifier.is_classifier, classifier.num_classes) == (True, 10)
    torch.testing.assert_close(classifier.class_probabilities(images).sum(1), torch.ones(1))


@pytest.mark.slow
def test_builds_and_runs_resnet50(data_dir: Path) -> None:
    network = DarknetNetwork(read_cfg(data_dir / "darknet" / "cfg" / "resnet50.cfg"))
    probabilities = network.class_probabilities(torch.from_numpy(random_images(64, 96)))
    assert probabilities.shape == (1, 1000)


def test_maps_are_freed_after_their_last_use(data_dir: Path) -> None:
    """A hook at the last layer sees which of the earlier maps are still held."""
    network = DarknetNetwork(read_cfg(data_dir / "darknet" / "yolo-fastest-1.1.cfg"))
    alive: set[int] = set()
    for index, layer in enumerate(network.layers):

        def remember(module: nn.Module, inputs: object, output: torch.Tensor, index: int = index) -> None:
            alive.add(index)
            weakref.finalize(output, alive.discard, index)

        layer.register_forward_hook(remember)
    most = 0

    def count(module: nn.Module, inputs: object) -> None:
        nonlocal most
        most = max(most, len(alive))

    for layer in network.layers:
        layer.register_forward_pre_hook(count)
    network.dense(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert len(network.layers) == 131
    assert most < 10


def test_reads_from_memory_too(data_dir: Path) -> None:
    path = data_dir / "darknet" / "yoloface-500k.weights"
    network = DarknetNetwork(read_cfg(path.with_suffix(".cfg")))
    assert read_layers(path.read_bytes(), network.weight_layers()).complete
    assert open_weights(path.read_bytes()).header.revision == 5
