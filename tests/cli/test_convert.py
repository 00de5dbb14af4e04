"""``yolofpn convert``: what goes there and back again is the same byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.commands import call
from tests.models.small import small_config, small_model
from yolofpn.cli.convert import main
from yolofpn.cli.summary import main as summary
from yolofpn.config import DarknetHeader, Metadata
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import write_layers
from yolofpn.models.yolo import YOLO
from yolofpn.weights import load_weights, save_weights

REPOSITORY = Path(__file__).parents[2]
OLD_HEADER = DarknetHeader(major=0, minor=1, revision=0, seen=12_345)


@pytest.fixture(scope="module")
def yolov3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of yolov3.cfg with a quarter of the filters, and that cfg beside them."""
    text = (REPOSITORY / "yolofpn" / "darknet" / "cfgs" / "yolov3.cfg").read_text(encoding="utf-8")
    text = re.sub(r"^(width|height)=\d+", r"\g<1>=64", text, flags=re.MULTILINE)
    text = re.sub(r"(batch_normalize=1\nfilters=)(\d+)", lambda match: match[1] + str(int(match[2]) // 4), text)
    path = tmp_path_factory.mktemp("darknet") / "quarter.weights"
    path.with_suffix(".cfg").write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    write_layers(path, DarknetNetwork(parse_cfg(text, "quarter.cfg")).weight_layers(), OLD_HEADER)
    return path


@pytest.fixture
def quarter_yaml(tmp_path: Path) -> Path:
    return write_quarter(tmp_path)


def write_quarter(folder: Path) -> Path:
    """cfg/yolofpn.yaml with a quarter of the filters."""
    text = (REPOSITORY / "cfg" / "yolofpn.yaml").read_text(encoding="utf-8")
    path = folder / "quarter.yaml"
    path.write_text(text.replace("{type: darknet53}", "{type: darknet, width: 0.25, depth: 1}"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def native(yolov3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a native model; for reading only."""
    folder = tmp_path_factory.mktemp("native")
    assert convert(yolov3, folder / "native.safetensors", "--cfg", write_quarter(folder)) == 0
    return folder / "native.safetensors"


def convert(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_there_and_back(yolov3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = tmp_path / "there.safetensors", tmp_path / "back.weights"
    assert convert(yolov3, there) == 0
    assert f"written: {there} ({there.stat().st_size:,} bytes)" in capsys.readouterr().out
    assert convert(there, back) == 0
    assert back.read_bytes() == yolov3.read_bytes()


@pytest.mark.slow
def test_there_and_back_through_the_native_model(yolov3: Path, native: Path, tmp_path: Path) -> None:
    loaded = load_weights(native)
    assert isinstance(loaded.detector, YOLO)
    assert loaded.metadata.darknet_cfg is None
    assert loaded.metadata.header == OLD_HEADER
    assert convert(native, tmp_path / "back.weights") == 0
    assert (tmp_path / "back.weights").read_bytes() == yolov3.read_bytes()


@pytest.mark.slow
def test_the_native_model_gives_the_same_output(yolov3: Path, native: Path) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        ours, theirs = load_weights(native).detector.dense(images), load_weights(yolov3).detector.dense(images)
    for own, other in zip(reversed(ours.values()), theirs.values(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.slow
def test_half_of_the_space_and_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native, card, half = (tmp_path / name for name in ("native.safetensors", "card.md", "half.safetensors"))
    config = small_config()
    save_weights(native, small_model(config).state_dict(), Metadata(model=config, names=("a", "b"), header=OLD_HEADER))
    card.write_text("# Katze\n\nFür alle.\n", encoding="utf-8")
    assert convert(native, half, "--half", "--card", card) == 0
    assert half.stat().st_size < 0.51 * native.stat().st_size
    stored, before = load_weights(half), load_weights(native)
    assert stored.metadata.card == "# Katze\n\nFür alle.\n"
    assert stored.metadata.model_copy(update={"card": ""}) == before.metadata
    numbers = before.detector.state_dict()
    for name, tensor in stored.detector.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, numbers[name].half().float())
    assert call(summary, capsys, half).out.endswith("\n\n# Katze\n\nFür alle.\n")


def test_what_darknets_format_cannot_hold_is_refused(
    yolov3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "card.md").write_text("x")
    for flags in (["--half"], ["--card", tmp_path / "card.md"]):
        assert "takes neither --half nor --card" in refusal(capsys, yolov3, tmp_path / "out.weights", *flags)
    said = refusal(capsys, yolov3, tmp_path / "out.safetensors", "--card", tmp_path / "none.md")
    assert "none.md: cannot be read" in said


@pytest.mark.slow
def test_real_weights_come_back(data_dir: Path, tmp_path: Path) -> None:
    original = data_dir / "darknet" / "yolo-fastest-1.1.weights"
    assert convert(original, tmp_path / "there.safetensors") == 0
    assert convert(tmp_path / "there.safetensors", tmp_path / "back.weights") == 0
    assert (tmp_path / "back.weights").read_bytes() == original.read_bytes()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert convert(*arguments) == 2
    return capsys.readouterr().err


def test_another_suffix_is_refused(yolov3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the output file must end in .safetensors or .weights" in refusal(capsys, yolov3, tmp_path / "out.pt")


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no.weights: no such weights file" in refusal(capsys, tmp_path / "no.weights", tmp_path / "o.safetensors")


@pytest.mark.slow
def test_another_network_is_refused(yolov3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = REPOSITORY / "cfg" / "yolofpn-tiny.yaml"
    said = refusal(capsys, yolov3, tmp_path / "o.safetensors", "--cfg", tiny)
    assert "its layers are not those of" in said
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[10, 13]", "[11, 13]"), "its anchors, strides or NMS are not those of"),
        (("levels: [3, 4, 5]", "levels: [3, 4, 5], upsample: bilinear"), "Darknet has no upsample: bilinear"),
        (("type: yolo", "type: yolo\n    xy: linear"), "Darknet has no xy: linear"),
    ],
    ids=["anchors", "upsample", "linear"],
)
def test_a_network_of_the_same_layers_that_computes_something_else_is_refused(
    yolov3: Path, quarter_yaml: Path, change: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quarter_yaml.write_text(quarter_yaml.read_text().replace(*change))
    assert said in refusal(capsys, yolov3, quarter_yaml.with_name("o.safetensors"), "--cfg", quarter_yaml)


@pytest.mark.slow
def test_native_weights_need_no_cfg(
    native: Path, quarter_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, native, tmp_path / "o.safetensors", "--cfg", quarter_yaml)
    assert "these weights belong to a native model" in said
