"""``python -m yolofpn tune``: the table, the choice, and what later runs make of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from tests.commands import call
from tests.data.band_images import write_band_images, write_band_weights
from tests.runtimes.small import random_images, small_detector
from tests.tiny_detector import RED, quarters, write_tiny
from yolofpn import load_detector
from yolofpn.cli import tune
from yolofpn.runtimes.backends import BackendBuilder
from yolofpn.tuning import tuning as tune_module
from yolofpn.tuning.tuning import TunedRow, candidates, choose
from yolofpn.weights import save_weights

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    yield
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading only."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    detector, metadata = small_detector()
    save_weights(path, detector.state_dict(), metadata)
    return path


@pytest.fixture
def two_precisions(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """PyTorch alone, in fp32 and bf16; and how long they are said to take."""
    seconds = {"fp32": 0.010, "bf16": 0.004}
    monkeypatch.setattr(tune_module, "candidates", lambda *_, **__: [("torch", "fp32"), ("torch", "bf16")])
    monkeypatch.setattr(tune_module, "_time", lambda predictor, _: [seconds[predictor.backend.precision]])
    return seconds


def write_images(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        image = random_images(1, 64, 96, seed=number)[0].permute(1, 2, 0).numpy()[:, :, ::-1]
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def write_labelled(folder: Path, weights: Path) -> Path:
    """Images whose labels are what the detector finds in them."""
    detector = load_detector(weights, backend="torch")
    images = write_images(folder / "images")
    (folder / "labels").mkdir()
    for path in sorted(images.iterdir()):
        found = detector(path)
        lines = []
        for one in found:
            x1, y1, x2, y2 = one.boxes[0].tolist()
            box = [(x1 + x2) / 2 / 96, (y1 + y2) / 2 / 64, (x2 - x1) / 96, (y2 - y1) / 64]
            lines.append(" ".join(map(str, [int(one.labels[0]), *box])))
        (folder / "labels" / f"{path.stem}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("path: .\nval: images\nnames: [cat, dog, bird]\n")
    return folder / "data.yaml"


def test_the_choice_holds_for_later_runs_until_it_is_forgotten(
    weights: Path, tmp_path: Path, two_precisions: dict[str, float], capsys: Any
) -> None:
    data = write_labelled(tmp_path / "data", weights)
    outcome = call(tune.main, capsys, weights, "--data", data, "--device", "cpu", "--max-loss", "1")
    assert outcome.code == 0, outcome.err
    table = [line.split() for line in outcome.out.splitlines() if line.startswith("torch")]
    assert [row[:3] for row in table] == [["torch", "fp32", "10.0"], ["torch", "bf16", "4.0"]]
    assert float(table[0][3]) > 0.9 and table[0][4] == "100.0%"  # its own detections are the labels
    assert "chosen: torch bf16 (4.0 ms, AP" in outcome.out
    later = load_detector(weights, device="cpu")
    assert later.backend.precision == "bf16" and "as tuned: 4.0 ms" in later.backend_note
    assert load_detector(weights, device="cpu", precision="fp32").backend.precision == "fp32"
    assert call(tune.main, capsys, weights, "--device", "cpu", "--forget").code == 0
    assert load_detector(weights, device="cpu").backend.precision == "fp32"


def test_a_dry_run_keeps_nothing(weights: Path, tmp_path: Path, two_precisions: dict[str, float], capsys: Any) -> None:
    images = write_images(tmp_path / "images")
    outcome = call(tune.main, capsys, weights, "--data", images, "--device", "cpu", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "no labels" in outcome.out and "chosen: " in outcome.out and "kept" not in outcome.out
    assert load_detector(weights, device="cpu").backend.precision == "fp32"


def row(name: str, precision: str, milliseconds: float, ap: float | None, agreement: float = 1.0) -> TunedRow:
    return TunedRow(name, precision, milliseconds, agreement, ap)


def test_the_fastest_that_is_as_good_is_chosen() -> None:
    reference = row("torch", "fp32", 10.0, 0.350)
    rows = [reference, row("openvino", "bf16", 5.0, 0.346), row("openvino", "int8", 2.0, 0.340, 0.9)]
    assert choose(rows, 0.005).precision == "bf16"
    assert choose(rows, 0.02).precision == "int8"
    assert choose(rows, 0.0) is reference
    unlabelled = [
        row("torch", "fp32", 10.0, None),
        row("a", "bf16", 5.0, None, 0.98),
        row("a", "int8", 2.0, None, 0.96),
    ]
    assert choose(unlabelled, 1.0).precision == "bf16"


def test_int8_is_made_kept_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    wanted = [("torch", "fp32"), ("openvino", "int8")]
    monkeypatch.setattr(tune_module, "candidates", lambda *_, **__: wanted)
    monkeypatch.setattr(
        tune_module, "_time", lambda predictor, _: [0.01 if predictor.backend.name == "torch" else 0.001]
    )
    monkeypatch.setattr(tune_module, "ENOUGH_AGREEMENT", 0.0)
    weights, image = write_tiny(tmp_path), tmp_path / "images" / "red.png"
    image.parent.mkdir()
    cv2.imwrite(str(image), quarters(RED))
    outcome = call(tune.main, capsys, weights, "--data", image.parent, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    later = load_detector(weights, device="cpu")
    assert (later.backend.name, later.backend.precision) == ("openvino", "int8")
    assert len(later(image)) > 0


def test_what_this_machine_can_do_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, metadata = small_detector()
    builder = BackendBuilder(detector, metadata, [(64, 96)], torch.device("cpu"))
    monkeypatch.setattr(tune_module, "is_fast_at_bf16", lambda _: True)
    found = candidates(builder, sizes_vary=False, can_calibrate=True)
    assert found[0] == ("torch", "fp32")
    assert {("torch", "bf16"), ("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "int8")} <= set(found)
    assert ("openvino", "int8") not in candidates(builder, sizes_vary=False, can_calibrate=False)
    assert {name for name, _ in candidates(builder, sizes_vary=True, can_calibrate=True)} == {"torch"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.weights"], "missing.weights: no such weights"),
        (["WEIGHTS", "--data", "EMPTY"], "empty: no "),
        (["WEIGHTS", "--data", "nowhere.yaml"], "nowhere.yaml"),
        (["WEIGHTS", "--max-loss", "2"], "--max-loss"),
    ],
)
def test_bad_requests_are_refused(weights: Path, tmp_path: Path, words: list[str], message: str, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    given = {"WEIGHTS": weights, "EMPTY": tmp_path / "empty"}
    outcome = call(tune.main, capsys, *(given.get(word, word) for word in words))
    assert outcome.code == 2
    assert message in outcome.err and "Traceback" not in outcome.err


def test_weights_for_bands_are_tuned_on_images_of_bands(
    tmp_path: Path, two_precisions: dict[str, float], capsys: Any
) -> None:
    weights, data = write_band_weights(tmp_path), write_band_images(tmp_path / "data")
    for given in (data, data.parent / "images"):
        outcome = call(tune.main, capsys, weights, "--data", given, "--device", "cpu", "--dry-run")
        assert outcome.code == 0, outcome.err
        assert "chosen: " in outcome.out
    refused = call(tune.main, capsys, weights, "--device", "cpu")
    assert refused.code == 2 and "--data" in refused.err and "chosen" not in refused.out
