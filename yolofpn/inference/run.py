"""One run of ``detect.py``: sources -> detections -> files, with a report of what happened."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from yolofpn.config import ResizeMode
from yolofpn.drawing import LabelStyle, draw_detections
from yolofpn.errors import InputError
from yolofpn.inference.media import MediaChoice
from yolofpn.inference.output_names import next_output_dir
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.report import Report
from yolofpn.inference.samples import default_sources
from yolofpn.inference.sinks import Sinks, build_sinks
from yolofpn.inference.sources import Source, resolve_sources
from yolofpn.inference.window import Window
from yolofpn.structures import Detections, Frame
from yolofpn.weights import load_weights

OUTPUT_BASE = Path("runs/detect")


@dataclass(frozen=True)
class DetectOptions:
    """What ``detect.py --help`` explains; None and 'auto' leave it to the weights."""

    sources: tuple[str, ...] = ()
    weights: str = "auto"
    darknet_cfg: Path | None = None
    names: Path | None = None
    img_size: tuple[int, int] | None = None
    resize: str = "auto"
    score_thresh: float | None = None
    nms_thresh: float | None = None
    max_det: int | None = None
    classes: tuple[str, ...] | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 1
    vid_stride: int = 1
    output: str | None = None
    format: tuple[str, ...] = ("jsonl",)
    media: MediaChoice = "all"
    labels: LabelStyle = "score"
    show: bool = False


@dataclass(frozen=True)
class Item:
    """A frame together with the source that it belongs to."""

    source: Source
    frame: Frame


def detect(options: DetectOptions) -> int:
    """Run, print, write; the exit code: 0 done, 1 some inputs failed.

    Raises:
        UserError: nothing can be done: bad weights or options, no readable input, no place to write to.
    """
    to_stdout = options.output == "-"
    report = Report(sys.stderr if to_stdout else sys.stdout)
    window = Window("yolofpn") if options.show else None
    predictor = open_predictor(options, report)
    specs = options.sources or default_sources()
    output = None if to_stdout else Path(options.output) if options.output else next_output_dir(OUTPUT_BASE, specs[0])
    with ExitStack() as stack:
        if window:
            stack.callback(window.close)
        sources = resolve_sources(specs, vid_stride=options.vid_stride)
        sinks = stack.enter_context(
            build_sinks(output, formats=options.format, media=options.media, labels=options.labels)
        )
        try:
            _process(sources, predictor, sinks, window, options, report)
        except KeyboardInterrupt:
            report.interrupted = True
    return report.finish(output)


def open_predictor(options: DetectOptions, report: Report) -> Predictor:
    """The detector that the options name, ready for use; the choices made are told to ``report``."""
    loaded = load_weights(options.weights, darknet_cfg=options.darknet_cfg, names=options.names)
    for note in loaded.notes:
        report.say(note)
    resize: ResizeMode | None = None if options.resize == "auto" else options.resize  # type: ignore[assignment]
    return Predictor(
        loaded.detector,
        loaded.metadata,
        img_size=options.img_size,
        resize=resize,
        score_thresh=options.score_thresh,
        nms_thresh=options.nms_thresh,
        detections_per_img=options.max_det,
        classes=options.classes,
        device=options.device,
        precision=options.precision,
    )


def _process(
    sources: Iterator[Source],
    predictor: Predictor,
    sinks: Sinks,
    window: Window | None,
    options: DetectOptions,
    report: Report,
) -> None:
    items = _items(sources, report)
    while batch := list(islice(items, options.batch_size)):
        start = time.perf_counter()
        results = predictor.predict([item.frame.image for item in batch])
        seconds = (time.perf_counter() - start) / len(batch)
        for item, detections in zip(batch, results, strict=True):
            sinks.write(item.source, item.frame, detections)
            report.add(item.source, item.frame, detections, seconds)
            if window and not _show(window, item, detections, options.labels):
                return


def _items(sources: Iterator[Source], report: Report) -> Iterator[Item]:
    """Every frame of every source; a source that fails is reported, and the next one goes on."""
    for source in sources:
        try:
            for frame in source.frames():
                yield Item(source, frame)
        except InputError as error:
            report.fail(str(error))


def _show(window: Window, item: Item, detections: Detections, labels: LabelStyle) -> bool:
    # A picture stays until a key is pressed, a video goes on at its pace.
    wait_ms = 0 if item.source.kind == "image" else 1
    return window.show(draw_detections(item.frame.image, detections, labels=labels), wait_ms)
