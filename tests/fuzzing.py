"""Mutated files of every format that is read, through the commands that read them, within limits of memory and time.

All inputs are text or plain values that concern this project's own readers: no bytes of images, videos, archives or
graphs are damaged here. ``python -m tests.fuzzing COUNT [SEED]`` tries many more than the test suite does.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2
import torch

from tests.tiny_detector import RED, quarters, write_tiny
from tests.training.small import CFG
from yolofpn.cli import check, detect, summary, train
from yolofpn.cli.arguments import run_command
from yolofpn.config import Metadata, load_config
from yolofpn.config.stored import dump_metadata
from yolofpn.data.layouts import open_data
from yolofpn.data.proposal_files import with_proposals
from yolofpn.models.build import build_model
from yolofpn.reading import parse_json
from yolofpn.tensor_files import write_safetensors

MEMORY = 1_000_000_000  # bytes that a command may take beside what the process has
SECONDS = 10.0  # of CPU time
Mutation = tuple[int, int, int]  # where, what, which

ODD = (
    *(b"1e12", b"1e999", b"-1", b"NaN", b"Infinity", b"-Infinity", b".inf", b"2147483648", b"18446744073709551616"),
    *(b"9" * 400, b"9" * 5000, b"1000000000", b"0", b"0.0", b"null", b"true", b"~", b'""', b"''", b"[]", b"{}"),
    *(
        b"&a ",
        b"*a",
        b"!!int ",
        b"!!bool x",
        b"!!timestamp 2020-99-99",
        b"!!set {a}",
        b"<<: ",
        b"? ",
        b"- ",
        b"%YAML 9",
    ),
    *(b"\x1b[31m", b"\xc2\x9b31m", b"\xff", b"\xed\xb3\xbf", b'"\\ud800"', b'"\\udcff"', b"\0", b"\t", b"\r", b"\n\n"),
    *(b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"- " * 300, b"x" * 5000),
    *(b"caf\xc3\xa9", b":", b",", b'"', b"<", b"&x;"),
)


def mutate(data: bytes, mutations: Sequence[Mutation]) -> bytes:
    """Replace a number, insert, remove, double or flip something, once for each mutation."""
    for place, kind, which in mutations:
        numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
        token, start = ODD[which % len(ODD)], place % (len(data) + 1)
        length = 1 + which % 40
        match kind % 10:
            case 0 | 1 | 2 | 3 | 4 if numbers:
                hit = numbers[place % len(numbers)]
                data = data[: hit.start()] + token + data[hit.end() :]
            case 5:
                data = data[:start] + data[start + length :]
            case 6:
                data = data[: start + length] + data[start:]
            case 7:
                data = data[:start] + bytes([which % 256]) + data[start + 1 :]
            case _:
                data = data[:start] + token + data[start:]
    return data


@dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes:
        seed: a valid file of it.
        write: puts a mutated one into the folder.
        words: command and arguments that read it, in that folder.
    """

    seed: bytes
    write: Callable[[Path, bytes], object]
    words: tuple[str, ...]


DATA_YAML = b"""format: yolo
root: .
splits:
  train: {images: images, annotations: labels}
names: {0: cat, 1: dog}
"""
TOOL_YAML = b"path: .\ntrain: images\nval: images\nnc: 2\nnames: ['cat', 'dog']\n"
COCO = b"""{"info": {"year": 2020}, "images": [{"id": 1, "file_name": "a.png", "width": 192, "height": 128}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30.5, 40], "area": 1220, "iscrowd": 0},
  {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
   "segmentation": [[1, 2, 4, 2, 4, 6]]}],
 "categories": [{"id": 1, "name": "cat", "supercategory": "none"}, {"id": 2, "name": "dog"}]}"""
VOC = b"""<annotation><folder>images</folder><filename>a.png</filename>
<size><width>192</width><height>128</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object></annotation>"""
YOLO = b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.1 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.2\n"
CVAT = b"""<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>
<image id="0" name="a.png" width="192" height="128">
<box label="cat" xtl="10.5" ytl="20" xbr="40" ybr="60" rotation="30.0" z_order="0"></box>
<polygon label="cat" points="1.0,2.0;30.0,2.5;30.0,40.0"></polygon></image></annotations>"""
LABELME = b"""{"version": "5.2.1", "flags": {}, "shapes": [
 {"label": "cat", "points": [[10.5, 20.0], [40.0, 60.0]], "shape_type": "rectangle", "group_id": null},
 {"label": "dog", "points": [[1, 2], [3, 4], [5, 1]], "shape_type": "polygon"},
 {"label": "dog", "points": [[50, 50], [60, 60]], "shape_type": "circle"}],
 "imagePath": "../images/a.png", "imageData": null, "imageHeight": 128, "imageWidth": 192}"""
CVAT_VIDEO = b"""<annotations><version>1.1</version><meta><task><size>2</size><start_frame>0</start_frame>
<stop_frame>1</stop_frame><labels><label><name>cat</name></label></labels><original_size><width>192</width>
<height>128</height></original_size></task></meta>
<track id="0" label="cat"><box frame="0" keyframe="1" outside="0" xtl="10.5" ytl="20" xbr="40" ybr="60"></box>
<box frame="1" keyframe="1" outside="1" xtl="12.5" ytl="20" xbr="42" ybr="60" rotation="30.0" z_order="0"></box>
</track></annotations>"""
LABEL_STUDIO = b"""[{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"id": 1,
 "was_cancelled": false, "result": [
 {"original_width": 192, "original_height": 128, "image_rotation": 0, "type": "rectanglelabels", "value":
  {"x": 10.5, "y": 20, "width": 30, "height": 40, "rotation": 15, "rectanglelabels": ["cat"]}},
 {"original_width": 192, "original_height": 128, "type": "ellipselabels", "value":
  {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "rotation": 0, "ellipselabels": ["dog"]}},
 {"original_width": 192, "original_height": 128, "type": "polygonlabels", "value":
  {"points": [[1, 2], [30, 2], [30, 40]], "polygonlabels": ["dog"]}}]}]}]"""
VIA = b"""{"_via_settings": {}, "_via_img_metadata": {"a.png1234": {"filename": "a.png", "size": 1234, "regions": [
 {"shape_attributes": {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40},
  "region_attributes": {"class": "cat"}},
 {"shape_attributes": {"name": "ellipse", "cx": 50, "cy": 60, "rx": 10, "ry": 5, "theta": 0.5},
  "region_attributes": {"class": "dog"}},
 {"shape_attributes": {"name": "polygon", "all_points_x": [1, 30, 30], "all_points_y": [2, 2, 40]},
  "region_attributes": {"class": {"dog": true}}}], "file_attributes": {}}}, "_via_attributes": {}}"""
VIA_CSV = b"""filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
a.png,1234,"{}",2,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}","{""class"":""cat""}"
a.png,1234,"{}",2,1,"{""name"":""circle"",""cx"":50,""cy"":60,""r"":9.5}","{""class"":""dog""}"
"""
KITTI = b"""Car 0.00 0 -1.58 10.50 20.00 40.00 60.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59
Person_sitting 0.10 1 0.3 1 2 30 40 1.6 0.6 0.8 1 2 3 0.5 0.99
DontCare -1 -1 -10 50.5 50.5 70.5 70.5 -1 -1 -1 -1000 -1000 -1000 -10
"""
OPEN_IMAGES = b"""ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction
a,xclick,/m/01yrx,1,0.05,0.25,0.1,0.5,0,0,0,0
a,xclick,/m/0bt9lr,1,0.5,0.75,0.5,0.75,0,0,1,0
"""
CREATEML = b"""[{"image": "a.png", "annotations": [
 {"label": "cat", "coordinates": {"x": 25.5, "y": 40, "width": 30, "height": 40}},
 {"label": "dog", "coordinates": {"x": 100, "y": 60, "width": 10, "height": 20}}]}]"""
PROPOSALS = b"""[{"image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5},
 {"file_name": "a.png", "bbox": [5.5, 6, 7, 8], "score": 0.25}]"""
NAMES = b"red\npotted plant\n"


def _metadata() -> Metadata:
    config = load_config(_written(Path(tempfile.mkdtemp()) / "small.yaml", CFG.encode()))
    return Metadata(model=config.model, input=config.input, names=("cat", "dog"))


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _labels(seed: bytes, key: str, name: str) -> Format:
    """Labels of the format ``key`` in a file of that name: one of all images, or that of an image in labels/."""
    annotations = name.partition("/")[0]
    yaml = f"format: {key}\nsplits: {{train: {{images: images, annotations: {annotations}}}}}\n"

    def write(folder: Path, data: bytes) -> None:
        _written(folder / name, data)
        _written(folder / "data.yaml", yaml.encode())

    return Format(seed, write, _IN_DATA)


def _weights(folder: Path, data: bytes) -> None:
    metadata = _METADATA
    assert metadata.model is not None
    state = build_model(metadata.model, 2, metadata.input, metadata.postprocess).state_dict()
    with contextlib.suppress(UnicodeDecodeError, ValueError):  # only text fits into a header
        write_safetensors(
            folder / "w.safetensors", {k: v.clone() for k, v in state.items()}, {"yolofpn": data.decode()}
        )


def _checkpoint(folder: Path, data: bytes) -> None:
    """A checkpoint whose plain values come from mutated JSON: of any type, but never code."""
    content: object = data.decode(errors="replace")
    with contextlib.suppress(ValueError):
        content = parse_json(data)
    (folder / "run").mkdir(exist_ok=True)
    torch.save(content, folder / "run" / "last.pt")


_METADATA = _metadata()
_CHECKPOINT = {
    "format_version": 1,
    "metadata": dump_metadata(_METADATA),
    "config": "{}",
    "overfit": None,
    "device": "cpu",
    "pictures": 1,
    "progress": {"epoch": 0, "batch": 0, "step": 0, "seconds": 0.0, "best_ap": -1.0, "best_epoch": -1}
    | {"worse_evaluations": 0, "loss_sums": {}, "finished": False},
    "model": {"a": 1},
}
_YOLO_YAML = "format: yolo\nsplits: {train: {images: images, annotations: labels}}\n"
_IN_DATA = ("check", "data.yaml", "--split", "train")

FORMATS: dict[str, Format] = {
    "data YAML": Format(DATA_YAML, lambda folder, data: _written(folder / "data.yaml", data), _IN_DATA),
    "data.yaml of tools": Format(TOOL_YAML, lambda folder, data: _written(folder / "data.yaml", data), _IN_DATA),
    "model YAML": Format(CFG.encode(), lambda folder, data: _written(folder / "m.yaml", data), ("summary", "m.yaml")),
    "COCO": _labels(COCO, "coco", "a.json"),
    "VOC": _labels(VOC, "voc", "labels/a.xml"),
    "YOLO": _labels(YOLO, "yolo", "labels/a.txt"),
    "CVAT for images": _labels(CVAT, "cvat", "a.xml"),
    "CVAT for video": _labels(CVAT_VIDEO, "cvat", "a.xml"),
    "labelme": _labels(LABELME, "labelme", "labels/a.json"),
    "Label Studio": _labels(LABEL_STUDIO, "label-studio", "a.json"),
    "VIA JSON": _labels(VIA, "via", "a.json"),
    "VIA CSV": _labels(VIA_CSV, "via", "a.csv"),
    "KITTI": _labels(KITTI, "kitti", "label_2/a.txt"),
    "Open Images": _labels(OPEN_IMAGES, "open-images", "a.csv"),
    "CreateML": _labels(CREATEML, "createml", "a.json"),
    "proposals": Format(PROPOSALS, lambda folder, data: _written(folder / "p.json", data), ("proposals", "p.json")),
    "names": Format(
        NAMES,
        lambda folder, data: _written(folder / "n.names", data),
        (*("detect", "images/a.png", "--weights", "tiny.weights", "--names", "n.names"), "--media", "none"),
    ),
    "list of images": Format(
        b"images/a.png\n", lambda folder, data: _written(folder / "l.txt", data), ("list", "l.txt")
    ),
    "safetensors metadata": Format(dump_metadata(_METADATA).encode(), _weights, ("summary", "w.safetensors")),
    "checkpoint": Format(json.dumps(_CHECKPOINT).encode(), _checkpoint, ("train", "--resume", "run")),
}


@dataclass(frozen=True)
class Verdict:
    """How a command ended: its exit code, CPU time in seconds, and what it printed."""

    code: int
    seconds: float
    printed: str


def prepare(folder: Path) -> None:
    """What the commands need beside the mutated file: an image, its labels, and weights."""
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "frame_000000.png", "frame_000001.png"):
        cv2.imwrite(str(folder / "images" / name), quarters(RED))
    _written(folder / "labels" / "a.txt", YOLO)
    write_tiny(folder)


def run_case(name: str, mutations: Sequence[Mutation], folder: Path) -> Verdict:
    """Run the command of a format on a mutated file, in the prepared working folder ``folder``.

    Raises:
        BaseException: whatever the command lets out, MemoryError and TimeoutError among them.
    """
    case = FORMATS[name]
    case.write(folder, mutate(case.seed, mutations))
    printed = io.StringIO()
    start = time.process_time()
    with limited(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = _COMMANDS[case.words[0]](list(case.words[1:]))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else -1
    return Verdict(code, time.process_time() - start, printed.getvalue())


def _proposals(words: Sequence[str]) -> int:
    """What ``data.proposals`` and ``evaluate.py --proposals`` do with the file."""
    Path("one.txt").write_text("images/a.png\n")
    Path("data.yaml").write_text("train: one.txt\nval: one.txt\nnames: [cat, dog]\n")

    def command() -> int:
        print(with_proposals(open_data("data.yaml").load("train"), Path(words[0]), "train")[1])
        return 0

    return run_command(command)


def _list(words: Sequence[str]) -> int:
    yaml = f"format: yolo\nsplits: {{train: {{images: {words[0]}, annotations: labels}}}}\nnames: [cat, dog]\n"
    Path("data.yaml").write_text(yaml)
    flags = ["--weights", "tiny.weights", "--media", "none", "--backend", "torch"]
    return max(check.main(["data.yaml", "--split", "train"]), detect.main([words[0], *flags]))


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": check.main,
    "detect": lambda words: detect.main([*words, "--backend", "torch"]),
    "summary": summary.main,
    "train": train.main,
    "proposals": _proposals,
    "list": _list,
}


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """At most ``MEMORY`` more and ``SECONDS`` of CPU time; beyond, MemoryError and TimeoutError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    handler = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


def main(count: int, seed: int) -> int:
    """Try ``count`` files over all formats, or until Ctrl-C, and print what happened."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    codes: Counter[tuple[str, str]] = Counter()
    slowest: dict[str, float] = {}
    failures = 0
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        prepare(Path(place))
        for number in range(count):
            name = list(FORMATS)[number % len(FORMATS)]
            mutations = [
                (rng.randrange(10**6), rng.randrange(10), rng.randrange(10**6))
                for _ in range(rng.choice((1, 1, 1, 2, 3)))
            ]
            try:
                verdict = run_case(name, mutations, Path(place))
                codes[name, str(verdict.code)] += 1
                slowest[name] = max(slowest.get(name, 0.0), verdict.seconds)
            except BaseException as error:  # everything that a user would see as a traceback
                if isinstance(error, KeyboardInterrupt):
                    count = number
                    break
                failures += 1
                codes[name, type(error).__name__] += 1
                print(f"FAILED {name} {mutations}", file=sys.stderr)
                traceback.print_exc(limit=-4)
    for name in FORMATS:
        ends = ", ".join(f"{kind}: {found}" for (each, kind), found in sorted(codes.items()) if each == name)
        print(f"{name:22} {ends}; slowest {slowest.get(name, 0.0):.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{count} files, seed {seed}: {failures} failures; peak {peak:.2f} GB")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
