"""``benchmark.py --programs``: one Darknet network in whole programs side by side, each with its own defaults.

Every run is a process of its own. What one image takes from the start of the program to its end is its start-up; what
each further image adds is the time of an image, whatever the program does beside its network. AP is that of the boxes
that a program gives at ``AP_SCORE_THRESH``, as they are. A first run of each, which is not counted, compiles modules.
"""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarking.opencv_program import RESULTS
from benchmarking.start import ROOT, WITHOUT_TORCH, Usage, installed_bytes, run
from yolofpn.cli.export import main as export
from yolofpn.config import Metadata
from yolofpn.data.class_names import match_classes
from yolofpn.data.dataset import DetectionDataset
from yolofpn.errors import UserError
from yolofpn.evaluation.evaluator import relabelled
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.extras import is_installed
from yolofpn.runtimes import RUNTIMES
from yolofpn.structures import Detections
from yolofpn.weights import load_weights

AP_SCORE_THRESH = 0.005
VIDEO = "video.mp4"
Row = tuple[float, float, float, float, float, int]  # x1, y1, x2, y2 in pixels, score, label


@dataclass(frozen=True)
class Program:
    """A program that detects with a Darknet network.

    Attributes:
        name: in the table.
        command: (sources, folder for its output, score threshold or None for its default) -> words.
        read: (that folder) -> the detections of each image by its path.
        installed: bytes of what has to be installed for it; None: unknown.
        reads_videos: whether it does.
        relative: its boxes are shares of the image's width and height.
    """

    name: str
    command: Callable[[Sequence[str], Path, float | None], list[str]]
    read: Callable[[Path], dict[str, list[Row]]]
    installed: int | None
    reads_videos: bool = True
    relative: bool = False


@dataclass
class ProgramRow:
    """The measurements of a program, one of each round.

    Attributes:
        one: the run over one image.
        all: the run over all images.
        video: the run over the video; empty where the program reads none.
    """

    program: Program
    images: int
    frames: int
    ap: dict[str, float] = field(default_factory=dict)
    one: list[Usage] = field(default_factory=list)
    all: list[Usage] = field(default_factory=list)
    video: list[Usage] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Medians in milliseconds, frames per second, seconds and MB."""

        def median(runs: Sequence[Usage], name: str) -> float:
            return float(statistics.median(getattr(each, name) for each in runs))

        def further(runs: Sequence[Usage], name: str, count: int) -> float | None:
            """What one more image takes; None: less than what the machine's other work makes of a run."""
            took = median(runs, name) - median(self.one, name)
            return took / (count - 1) if took > 0 and count > 1 else None

        def per_second(runs: Sequence[Usage], count: int) -> float | None:
            took = further(runs, "wall", count)
            return None if took is None else 1 / took

        def milliseconds(runs: Sequence[Usage], name: str, count: int) -> float | None:
            took = further(runs, name, count)
            return None if took is None else 1e3 * took

        return {
            "name": self.program.name,
            **self.ap,
            "image_ms": milliseconds(self.all, "wall", self.images),
            "image_cpu_ms": milliseconds(self.all, "cpu", self.images),
            "video_fps": per_second(self.video, self.frames) if self.video else None,
            "video_cpu_ms": milliseconds(self.video, "cpu", self.frames) if self.video else None,
            "start_s": median(self.one, "wall"),
            "start_cpu_s": median(self.one, "cpu"),
            "peak_mb": max(each.memory for each in [*self.all, *self.video]) / 1e6,
            "installed_mb": None if self.program.installed is None else self.program.installed / 1e6,
            "images": self.images,
            "frames": self.frames,
        }


def measure_programs(
    weights: str, dataset: DetectionDataset, video: Path, frames: int, darknet: Path | None, rounds: int
) -> list[dict[str, Any]]:
    """The rows of the table.

    Args:
        weights: a Darknet file, whose cfg is found.
        dataset: images with objects.
        video: its first frames are detected in too.
        frames: as many as these.
        darknet: the program of that name, if it is there.
        rounds: runs of each.

    Raises:
        UserError: the weights are no Darknet file, or a program fails.
    """
    images = [str(Path(path).resolve()) for path in dataset.paths]
    path = Path(weights).resolve()
    loaded = load_weights(path)
    if loaded.metadata.darknet_cfg is None:
        raise UserError(f"{weights}: --programs needs a Darknet .weights file, which all programs read")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = [*own_programs(path, folder), *other_programs(path, loaded.metadata, folder, darknet)]
        clip = folder / VIDEO
        rows = [ProgramRow(program, len(images), cut(video, clip, frames)) for program in programs]
        for row in rows:
            row.ap = measure_ap(row.program, images, dataset, loaded.metadata, folder)
        for _ in range(rounds):
            for row in rows:
                row.one.append(_run(row.program, images[:1], folder))
                row.all.append(_run(row.program, images, folder))
                if row.program.reads_videos:
                    row.video.append(_run(row.program, [str(clip)], folder))
    return [row.to_json() for row in rows]


def own_programs(weights: Path, folder: Path) -> list[Program]:
    """``detect.py`` with the weights in PyTorch, and without PyTorch with a graph for each runtime that is installed.

    Args:
        weights: a Darknet file.
        folder: receives the graphs.

    Raises:
        UserError: a graph cannot be made.
    """
    installed = installed_bytes(ROOT, ("train",))
    found = [Program("yolofpn, PyTorch", _own_command(weights, "torch"), read_own, installed)]
    for runtime in RUNTIMES:
        if not all(is_installed(package.replace("-", "_")) for package in runtime.packages):
            continue
        graph = folder / runtime.key / f"graph{runtime.suffix}"
        if export(["--weights", str(weights), "--format", runtime.key, str(graph)]):
            raise UserError(f"{weights}: cannot be exported to {runtime.key}")
        command = _own_command(graph, runtime.key, light=True)
        found.append(Program(f"yolofpn, {runtime.key}", command, read_own, installed_bytes(ROOT, (runtime.extra,))))
    return found


def other_programs(weights: Path, metadata: Metadata, folder: Path, darknet: Path | None) -> list[Program]:
    """OpenCV, and Darknet if it is there.

    Args:
        weights: a Darknet file.
        metadata: of it.
        folder: receives cfg and names.
        darknet: the program, as AlexeyAB's Makefile builds it.

    Raises:
        UserError: ``darknet`` is no program.
    """
    assert metadata.darknet_cfg is not None
    cfg, names, data = (folder / name for name in ("net.cfg", "net.names", "net.data"))
    cfg.write_text(metadata.darknet_cfg, encoding="utf-8")
    names.write_text("".join(f"{name}\n" for name in metadata.names), encoding="utf-8")
    data.write_text(f"classes={len(metadata.names)}\nnames={names}\n", encoding="utf-8")
    # OpenCV drops class scores below .2 unless the cfg says otherwise, which has no place in its other settings.
    low = folder / "low.cfg"
    low.write_text(metadata.darknet_cfg.replace("[yolo]", "[yolo]\nthresh=0.001"), encoding="utf-8")

    def opencv(sources: Sequence[str], output: Path, score_thresh: float | None) -> list[str]:
        chosen = (low, str(score_thresh)) if score_thresh is not None else (cfg, "0.25")
        program = str(Path(__file__).with_name("opencv_program.py"))
        return [sys.executable, program, str(chosen[0]), str(weights), chosen[1], str(output), *sources]

    found = [Program("OpenCV DNN", opencv, read_opencv, installed_bytes(ROOT, (), ("opencv-python",)))]
    if darknet is None:
        return found
    if shutil.which(darknet) is None:
        raise UserError(f"{darknet}: is no program: give the path of the file `darknet`")

    def detector_test(sources: Sequence[str], output: Path, score_thresh: float | None) -> list[str]:
        output.mkdir(parents=True)
        listed = output / "list.txt"
        listed.write_text("".join(f"{source}\n" for source in sources), encoding="utf-8")
        words = [str(darknet.resolve()), "detector", "test", str(data), str(cfg), str(weights), "-dont_show"]
        words += ["-out", str(output / RESULTS)] + ([] if score_thresh is None else ["-thresh", str(score_thresh)])
        return ["/bin/sh", "-c", f"{shlex.join(words)} < {shlex.quote(str(listed))}"]

    size = darknet.stat().st_size
    return [*found, Program("Darknet", detector_test, read_darknet, size, reads_videos=False, relative=True)]


def _own_command(weights: Path, backend: str, *, light: bool = False) -> Callable[..., list[str]]:
    def command(sources: Sequence[str], output: Path, score_thresh: float | None) -> list[str]:
        words = ["detect", *sources, "--weights", str(weights), "--backend", backend, "--output", str(output)]
        words += [] if score_thresh is None else ["--score-thresh", str(score_thresh)]
        words += [] if Path(sources[0]).name == VIDEO else ["--media", "none"]  # the others draw no images
        program = f"from yolofpn.__main__ import main\nraise SystemExit(main({words!r}))"
        return [sys.executable, "-c", (WITHOUT_TORCH if light else "") + program]

    return command


def read_own(output: Path) -> dict[str, list[Row]]:
    """``detections.jsonl``."""
    found = {}
    for line in (output / "detections.jsonl").read_text(encoding="utf-8").splitlines():
        tree = json.loads(line)
        found[tree["source"]] = [(*each["box"], each["score"], each["label"]) for each in tree["detections"]]
    return found


def read_opencv(output: Path) -> dict[str, list[Row]]:
    """What ``opencv_program.py`` writes."""
    lines = (output / RESULTS).read_text(encoding="utf-8").splitlines()
    return {source: [(*row,) for row in rows] for source, rows in map(json.loads, lines)}


def read_darknet(output: Path) -> dict[str, list[Row]]:
    """Darknet's JSON, whose boxes are shares of the image."""
    found: dict[str, list[Row]] = {}
    for image in json.loads((output / RESULTS).read_text(encoding="utf-8", errors="replace")):
        rows = found.setdefault(image["filename"], [])
        for each in image["objects"]:
            x, y, width, height = (
                each["relative_coordinates"][name] for name in ("center_x", "center_y", "width", "height")
            )
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            rows.append((*box, each["confidence"], each["class_id"]))
    return found


def cut(video: Path, clip: Path, frames: int) -> int:
    """Copy the first frames of a video, undecoded; return how many can be decoded.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with av.open(str(video)) as source, av.open(str(clip), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in islice(source.demux(source.streams.video[0]), frames):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        with av.open(str(clip)) as written:
            return sum(1 for _ in written.decode(video=0))
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"{video}: cannot be read as a video ({error})") from None


def measure_ap(
    program: Program, images: Sequence[str], dataset: DetectionDataset, metadata: Metadata, folder: Path
) -> dict[str, float]:
    """AP and AP50 of a program's boxes at ``AP_SCORE_THRESH``.

    Raises:
        UserError: the program fails, leaves an image out, or has no class of the data set's.
    """
    match = match_classes(metadata.names, metadata.category_ids, dataset.names, dataset.category_ids)
    if match.how is None:
        raise UserError("no class in common with the data set")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        output = Path(name) / "found"
        run(program.command(images, output, AP_SCORE_THRESH), ROOT, Path(name), folder)
        found = program.read(output)
    metrics = DetectionMetrics(dataset.names)
    for index, image in enumerate(images):
        if image not in found:
            raise UserError(f"{program.name}: says nothing of {image}")
        rows = np.array(found[image], np.float32).reshape(-1, 6)
        height, width = dataset.sizes[index].tolist()
        boxes = rows[:, :4] * np.array([width, height] * 2, np.float32) if program.relative else rows[:, :4]
        order = np.argsort(-rows[:, 4], kind="stable")
        detections = Detections(boxes[order], rows[order, 4], rows[order, 5].astype(np.int64))
        metrics.add(relabelled(detections, match.mapping), dataset.target(index))
    values = metrics.compute().values
    return {name: values[name] for name in ("AP", "AP50")}


def _run(program: Program, sources: Sequence[str], folder: Path) -> Usage:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return run(program.command(sources, Path(name) / "found", None), ROOT, Path(name), folder)
