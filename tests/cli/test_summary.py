"""``yolofpn summary``: the table's totals are those that the papers and the files' sizes state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Outcome, call
from tests.tiny_detector import write_tiny
from yolofpn.cli.summary import main

REPOSITORY = Path(__file__).parents[2]


def summary(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    return call(main, capsys, *words)


@pytest.mark.slow
def test_yolov3(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = summary(capsys, REPOSITORY / "cfg" / "yolofpn.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["name", "type", "filters", "size/stride", "output", "parameters", "GFLOP"]
    # yolov3.weights has 248,007,048 bytes, 20 of them its header; 65.86 Bn FLOPS at 416 x 416 is what its site states.
    total = lines[-1].split()
    assert total[:4] == ["total", "75", "convolutions", f"{(248_007_048 - 20) // 4:,}"]
    assert float(total[4]) == pytest.approx(65.86, abs=0.5)
    assert lines[1].split() == ["backbone.stem", "Convolutional", "32", "3x3/1", "416x416x32", "992", "0.299"]


@pytest.mark.slow
def test_cfg_and_weights_and_yaml_of_the_same_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cfg = REPOSITORY / "yolofpn" / "darknet" / "cfgs" / "yolov3.cfg"
    from_cfg = summary(capsys, cfg, "--img-size", "96x64").out.splitlines()
    from_yaml = summary(capsys, REPOSITORY / "cfg" / "yolofpn.yaml", "--img-size", "96x64").out.splitlines()
    assert from_cfg[-1].split() == from_yaml[-1].split()
    weights = write_tiny(tmp_path)
    from_weights = summary(capsys, weights)
    assert from_weights.out == summary(capsys, weights.with_suffix(".cfg")).out
    # 7 filters of 3 numbers and a bias on 2 x 2 cells.
    assert from_weights.out.splitlines()[1].split() == [
        "layers.0",
        "Convolutional",
        "7",
        "1x1/32",
        "2x2x7",
        "28",
        "0.000",
    ]


def test_a_classifiers_cfg(capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
    """Darknet-19 (arXiv 1612.08242, table 6): 19 convolutions, 5 poolings, 5.58 billion operations."""
    outcome = summary(capsys, data_dir / "darknet" / "cfg" / "darknet19.cfg", "--img-size", "224")
    lines = outcome.out.splitlines()
    assert (outcome.code, lines[-1].split()[:3]) == (0, ["total", "19", "convolutions"])
    assert float(lines[-1].split()[-1]) == pytest.approx(5.58, abs=0.01)
    assert sum("Maxpool" in line for line in lines) == 5
    assert [line.split()[1] for line in lines[-4:-1]] == ["Convolutional", "Avgpool", "Softmax"]


@pytest.mark.slow
def test_changes_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = REPOSITORY / "cfg" / "yolofpn-tiny.yaml"
    plain = summary(capsys, tiny, "--num-classes", 3).out
    assert " 24 " in plain.splitlines()[-2]  # 3 anchors x (5 + 3)
    changed = summary(capsys, tiny, "model.backbone.width=0.25", "--num-classes", 3).out
    assert changed.splitlines()[-1] != plain.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cfg/yolofpn.yaml", "--img-size", "100"], "image size 100x100 is not a multiple of 32, the model's stride"),
        (["cfg/yolofpn.yaml", "model.bakbone.width=1"], "did you mean"),
        (["cfg/missing.yaml"], "missing.yaml"),
        (["yolofpn/darknet/cfgs/missing.cfg"], "missing.cfg"),
        (["yolofpn/darknet/cfgs/yolov3.cfg", "a.b=1"], ".yaml config only"),
        (["missing.weights"], "no such weights file"),
    ],
)
def test_what_cannot_be_summed_up_is_exit_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    outcome = summary(capsys, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.count("\n") <= 2
