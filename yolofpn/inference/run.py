"""One run of ``detect.py``: sources -> detections -> files, with a report of what happened."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from yolofpn.concurrency import Background
from yolofpn.config import Depth, ResizeMode
from yolofpn.data.files import describe_unread_files
from yolofpn.drawing import LabelStyle
from yolofpn.errors import UserError
from yolofpn.files import locked_output, write_errors
from yolofpn.inference.live_results import LiveResults, live_or_not
from yolofpn.inference.load import load_for_inference
from yolofpn.inference.pipeline import results_of, written
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.report import Report
from yolofpn.inference.threads import share_processors
from yolofpn.inference.workload import expected_workload
from yolofpn.interrupt import StopRequest
from yolofpn.results import Result, Results
from yolofpn.shipped import default_sources
from yolofpn.sinks.build import Sinks, build_sinks
from yolofpn.sinks.media import MediaChoice
from yolofpn.sinks.names import next_output_dir
from yolofpn.sources.remote import is_url
from yolofpn.sources.resolve import Source, resolve_sources
from yolofpn.view.thresholds import lowered
from yolofpn.view.viewer import Viewer
from yolofpn.view.window import check_display

OUTPUT_BASE = Path("runs/detect")
STDOUT = "-"
TICK = 0.1  # seconds between two looks for a signal while there is nothing new


@dataclass(frozen=True)
class DetectOptions:
    """What ``detect.py --help`` explains; None and 'auto' leave it to the weights."""

    sources: tuple[str, ...] = ()
    weights: str = "auto"
    darknet_cfg: Path | None = None
    names: Path | None = None
    img_size: tuple[int, int] | None = None
    pyramid: tuple[tuple[int, int], ...] | None = None
    resize: Literal["auto"] | ResizeMode = "auto"
    score_thresh: float | None = None
    nms_thresh: float | None = None
    max_det: int | None = None
    classes: tuple[str, ...] | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    compile: bool = False
    pad_batches: bool = False
    batch_size: int = 1
    vid_stride: int = 1
    depth: Depth | None = None
    output: str | None = None
    format: tuple[str, ...] = ("jsonl",)
    media: MediaChoice = "all"
    labels: LabelStyle = "score"
    show: bool = False


def detect(options: DetectOptions) -> int:
    """Run, print, write; the exit code: 0 done, 1 some inputs failed or the user interrupted, 2 it broke off.

    Raises:
        UserError: nothing can be done: bad weights or options, no readable input, no place to write to.
    """
    report = Report(sys.stderr if options.output == STDOUT else sys.stdout)
    if options.show:
        check_display()
    predictor = open_predictor(options, report)
    viewer = _open_viewer(predictor, options.labels, report) if options.show else None
    specs = options.sources or default_sources()
    folders = [Path(spec) for spec in specs if not is_url(spec)]
    if (unread := describe_unread_files(folders, videos=True)) is not None:
        report.say(unread)
    sources = resolve_sources(specs, vid_stride=options.vid_stride, depth=predictor.depth)
    report.start_clock()
    with closing(predictor), closing(_results_of(sources, predictor, report, options.batch_size)) as results:
        first = results.peek()
        if first is None:
            raise UserError("no input could be read")
        # The folder is made only now, so that a run that can do nothing leaves nothing behind.
        output = _output_folder(options.output, specs[0], first.source)
        with locked_output(output) if output else nullcontext():
            sinks = build_sinks(output, formats=options.format, media=options.media, labels=options.labels)
            if viewer and output:
                viewer.snapshots = output / "snapshots"
            code = _deliver(results, sinks, report, viewer)
    return max(code, report.finish(output))


def open_predictor(options: DetectOptions, report: Report) -> Predictor:
    """The detector that the options name, ready for use; the choices made are told to ``report``."""
    loaded = load_for_inference(options.weights, darknet_cfg=options.darknet_cfg, names=options.names)
    for note in loaded.notes:
        report.say(note)
    predictor = Predictor(
        loaded.detector,
        loaded.metadata,
        img_size=options.img_size,
        pyramid=options.pyramid,
        resize=None if options.resize == "auto" else options.resize,
        depth=options.depth,
        score_thresh=options.score_thresh,
        nms_thresh=options.nms_thresh,
        detections_per_img=options.max_det,
        classes=options.classes,
        device=options.device,
        backend=options.backend,
        precision=options.precision,
        workload=expected_workload(options.sources or default_sources()),
        compile=options.compile,
        pad_batches=options.pad_batches,
    )
    report.say(predictor.backend_note)
    share_processors(predictor)
    return predictor


def _open_viewer(predictor: Predictor, labels: LabelStyle, report: Report) -> Viewer:
    """What shows the results; from now on the predictor finds weaker objects too, for the user to look at."""
    viewer = Viewer(labels, predictor.limits, report.say)
    predictor.limits = lowered(predictor.limits)
    return viewer


def _results_of(sources: Iterator[Source], predictor: Predictor, report: Report, batch_size: int) -> Results:
    live, others = live_or_not(sources, report)
    if live:
        return LiveResults(live, predictor, report)
    return results_of(others, predictor, report, batch_size=batch_size)


def _deliver(results: Results, sinks: Sinks, report: Report, viewer: Viewer | None) -> int:
    """Write, report and show every result, until the user has seen enough; then close the sinks.

    Returns:
        The exit code: 1 if the user interrupted, 2 if it broke off, such as on a full disk, else 0.
    """
    code = 0
    request = StopRequest(announce=False)
    try:
        with (
            request.listening(),  # the outermost: the first signal does not keep the sinks from being closed whole
            sinks,
            viewer or nullcontext(),
            # Ended before the sinks are closed, even if a second Ctrl-C does not let what is under way come out.
            closing(written(results, sinks, report, viewer.limits if viewer else None)) as done,
        ):
            try:
                for result in _attended(done, viewer, request):
                    report.add(result.source, result.frame, result.detections, result.seconds)
                    if viewer and not _shown(result, viewer, request):
                        break
            except KeyboardInterrupt:  # while a window was looked after
                request.requested = True
            if request.requested:
                code = 1
                report.stop("interrupted: what was done so far is kept")
            results.stop()
            for result in done:  # what was under way
                report.add(result.source, result.frame, result.detections, result.seconds)
    except UserError as error:
        code = 2
        report.stop(f"error: {error}")
    return code


def _attended(done: Background[Result], viewer: Viewer | None, request: StopRequest) -> Iterator[Result]:
    """What is done, until someone wants to stop; while there is nothing new the windows are looked after.

    A signal never interrupts the taking of a result: what has left the queue is also counted.
    """
    while not request.requested:
        if not done.ready:
            if viewer is None:
                done.wait(TICK)
            else:
                with request.raising():
                    if not viewer.idle():
                        return
            continue
        result = next(done, None)
        if result is None:
            return
        yield result


def _shown(result: Result, viewer: Viewer, request: StopRequest) -> bool:
    """Show ``result``; False if the user wants no more. A signal ends the waiting for the user or the right time."""
    with request.raising():
        return viewer.show(result)


def _output_folder(given: str | None, spec: str, first: Source) -> Path | None:
    """As given, else a new one called after the first of the sources; None for standard output."""
    if given == STDOUT:
        return None
    if not given:
        return next_output_dir(OUTPUT_BASE, _run_name(spec, first))
    with write_errors(Path(given)):
        Path(given).mkdir(parents=True, exist_ok=True)
    return Path(given)


def _run_name(spec: str, first: Source) -> str:
    """What a run over ``spec``, which begins with the source ``first``, is called: never with a password."""
    if spec == "-":
        return "stdin"
    if is_url(spec) or spec.isdecimal():  # an address or a camera
        return str(first.relative_path)
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(spec).parts)).absolute().name
