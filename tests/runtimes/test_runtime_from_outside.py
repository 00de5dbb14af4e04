"""A runtime from outside the package exports and detects: the example of docs/extending.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import pytest
import torch

from tests.commands import call
from tests.tiny_detector import GREEN, RED, quarters, write_tiny
from yolofpn import load_detector, runtimes
from yolofpn.cli.detect import main as detect
from yolofpn.cli.export import main as export
from yolofpn.detector import Detector
from yolofpn.errors import UserError
from yolofpn.runtimes.backend import Batch, Wait, as_uint8
from yolofpn.runtimes.conversion import INPUT_NAME, trace_dense
from yolofpn.runtimes.newest import NewestSizes
from yolofpn.runtimes.runtime import METADATA_KEY, GraphShape, Runtime

pytestmark = pytest.mark.slow


class PT2Graph:
    """Runs the graph of each input size."""

    name, precision, slots = "pt2", "fp32", 1

    def __init__(self, find_graph: Callable[[tuple[int, int]], Path], map_names: Sequence[str]) -> None:
        self._map_names = map_names
        self._graphs = NewestSizes(lambda size: torch.export.load(find_graph(size)).module())

    @torch.inference_mode()
    def start(self, batch: Batch) -> Wait:
        """[B, 3, H, W] RGB -> what waits for the maps: here nothing is left to wait for."""
        images = torch.from_numpy(as_uint8(batch))
        outputs = self._graphs[images.shape[2], images.shape[3]](images)
        maps = dict(zip(self._map_names, outputs, strict=True))
        return lambda: maps


class PT2(Runtime):
    """Files of torch.export."""

    key: ClassVar[str] = "pt2"
    suffix: ClassVar[str] = ".pt2"
    module: ClassVar[str] = "torch"  # what has to be installed
    extra: ClassVar[str] = "pt2"  # pip install '.[pt2]' does it
    packages: ClassVar[tuple[str, ...]] = ("torch",)  # other versions need graphs of their own
    sealed: ClassVar[bool] = False  # the file has checksums, so nothing can be written into it later

    @classmethod
    def convert(
        cls, detector: Detector, size: tuple[int, int], batch: int | None = None, calibration: Any = None
    ) -> Any:
        """The traced program itself."""
        return trace_dense(detector, size)

    @classmethod
    def save(cls, graph: Any, path: Path, info: str | None = None, precision: str = "fp32") -> None:
        """The metadata are a further entry of the archive."""
        torch.export.save(graph, path, extra_files={METADATA_KEY: info or ""})

    @classmethod
    def read(cls, path: Path) -> tuple[str | None, GraphShape]:
        """What is checked when the file is opened."""

        def sizes(node: Any) -> list[int | None]:
            return [size if isinstance(size, int) else None for size in node.meta["val"].shape]

        found = {METADATA_KEY: ""}
        graph = torch.export.load(path, extra_files=found).graph
        entry = next(node for node in graph.nodes if node.name == INPUT_NAME)
        outputs = [sizes(node) for node in graph.output_node().args[0]]
        return found[METADATA_KEY] or None, GraphShape(entry.meta["val"].dtype == torch.uint8, sizes(entry), outputs)

    @classmethod
    def open(
        cls,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> PT2Graph:
        """One batch at a time."""
        return PT2Graph(find_graph, map_names)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runtimes, "RUNTIMES", (*runtimes.RUNTIMES, PT2))
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), quarters(RED, GREEN, RED))
    return write_tiny(tmp_path)


def test_it_exports_and_detects(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, image = tmp_path / "tiny.pt2", tmp_path / "a.png"
    outcome = call(export, capsys, "--weights", weights, "--format", "pt2", graph)
    assert outcome.code == 0, outcome.err
    assert "checked: pt2 fp32" in outcome.out

    outcome = call(detect, capsys, image, "--weights", graph, "--output", "-")
    assert outcome.code == 0 and "pt2 fp32" in outcome.err
    found, expected = load_detector(graph)(image), load_detector(weights, backend="torch")(image)
    assert outcome.out.count('"label"') == len(found) == len(expected) == 3
    assert abs(found.boxes - expected.boxes).max() < 0.01

    graph.write_bytes(graph.read_bytes()[:3000])
    with pytest.raises(UserError, match="no pt2 graph"):
        load_detector(graph)


def test_it_runs_weights_by_name_from_the_cache(weights: Path, tmp_path: Path) -> None:
    found = load_detector(weights, backend="pt2")
    assert found.backend.name == "pt2" and "NOT" not in found.backend_note
    assert sorted(path.suffix for path in (tmp_path / "cache" / "graphs").iterdir()) == [".json", ".pt2", ".sums"]
    with pytest.raises(UserError, match="fp32 only, not bf16"):
        load_detector(weights, backend="pt2", precision="bf16")


def test_every_command_offers_it(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (detect, export):
        with pytest.raises(SystemExit):
            command(["--help"])
        assert "pt2" in capsys.readouterr().out
