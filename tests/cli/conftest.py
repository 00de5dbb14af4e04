"""What several tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.once import made_once
from yolofpn.cli.export import main as export

LAYOUTS = {
    "decoded": ["--layout", "decoded"],
    "end2end": ["--layout", "end2end"],
    "bytes": ["--layout", "decoded", "--input-type", "uint8", "--precision", "fp16", "--opset", "18"],
}


@pytest.fixture(scope="session")
def layouts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Graphs of the detector of colours for other programs, with its labels beside them; for reading only."""

    def make(folder: Path) -> None:
        for name, words in LAYOUTS.items():
            path = str(folder / f"{name}.onnx")
            assert export(["--weights", str(weights), "--format", "onnx", *words, path]) == 0

    folder = made_once(tmp_path_factory, "layouts", make)
    return {name: folder / f"{name}.onnx" for name in LAYOUTS}
