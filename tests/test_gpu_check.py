"""The tool that checks a GPU, in its smallest form on the CPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tools.gpu_measurements import MODELS, SMALL_RUN


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[1] / "tools" / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_process(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, checks: dict[str, Any]) -> None:
    """Run checks here: starting a process for each takes longer than the checks."""

    def run(name: str, words: list[str], seconds: float) -> dict[str, Any]:
        row: dict[str, Any] = {"check": name, "seconds": 0.0, "ok": True} | checks[name]("cpu", True)
        return row

    monkeypatch.setattr(tool, "checks", lambda data: checks)
    monkeypatch.setattr(tool, "run_apart", run)


@pytest.mark.slow
def test_the_quick_form_runs_on_the_cpu(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("parity fp32", "nms", "training lite bf16", "losses lite fp16", "inference lite fp32", "loader")
    (tmp_path / "small.yaml").write_text(SMALL_RUN)
    monkeypatch.setitem(MODELS, "lite", str(tmp_path / "small.yaml"))
    monkeypatch.setattr("yolofpn.training.precision.SIDE", 32)  # which one is faster nobody asks
    in_process(tool, monkeypatch, {name: tool.checks("")[name] for name in names})
    assert tool.main(["--device", "cpu", "--quick", "--json", str(tmp_path / "answer.json")]) == 0
    rows = json.loads((tmp_path / "answer.json").read_text())["rows"]
    assert [row["check"] for row in rows] == list(names)
    assert all(row["ok"] for row in rows)
    assert rows[0]["map_error"] < 1e-4
    assert 0 < rows[2]["share_of_peak"] < 2
    assert rows[3]["steps"] == 6
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(names)


@pytest.mark.slow
def test_a_failing_check_is_a_row(tool: ModuleType) -> None:
    words = ["--device", "cpu", "--quick"]
    row = tool.run_apart("missing", words, 120)  # as there is no check of that name
    assert row["ok"] is False
    assert "missing" in row["error"]
    assert tool.run_apart("nms", words, 0.01)["error"] == "took more than 0 s"


def test_what_the_budget_does_not_reach_is_skipped(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_process(tool, monkeypatch, {"one": lambda device, quick: {}})
    assert tool.main(["--device", "cpu", "--budget", "0"]) == 1
    assert "skipped" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([]) == 2
    assert "--device cpu" in capsys.readouterr().err
