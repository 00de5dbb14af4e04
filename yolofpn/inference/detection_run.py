"""Runs ``detect.py``: detects in sources, writes files and reports."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from yolofpn.addresses import is_url
from yolofpn.concurrency import Background
from yolofpn.data.image_files import describe_unread_files
from yolofpn.drawing import LabelStyle
from yolofpn.errors import UserError
from yolofpn.files import locked_output, write_errors
from yolofpn.inference.detection_report import Report
from yolofpn.inference.live_results import open_results
from yolofpn.inference.load_detector import LoadedDetector, load_for_inference
from yolofpn.inference.pipeline import written
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import PredictorOptions, expected_workload
from yolofpn.inference.selection import split_sources
from yolofpn.inference.threads import share_processors
from yolofpn.inference.tracked_results import TrackedResults
from yolofpn.interrupt import StopRequest
from yolofpn.results import Failure, Result, Results
from yolofpn.shipped import default_sources
from yolofpn.sinks.jsonl import finished_sources
from yolofpn.sinks.media import MediaChoice
from yolofpn.sinks.opened import Sinks, build_sinks
from yolofpn.sinks.output_names import next_output_dir
from yolofpn.sources.kinds import failed_source
from yolofpn.sources.resolve import Source, resolve_sources
from yolofpn.sources.shards import Shard
from yolofpn.tracking.source_tracks import TrackOptions, followed
from yolofpn.view.shown_thresholds import lowered
from yolofpn.view.viewer import Viewer
from yolofpn.view.window import check_display

OUTPUT_BASE = Path("runs/detect")
STDOUT = "-"
TICK = 0.1  # seconds between two looks for a signal while there is nothing new


@dataclass(frozen=True, kw_only=True)
class DetectOptions(PredictorOptions):
    """What ``detect.py --help`` explains; what is not given is left to the weights."""

    sources: tuple[str, ...] = ()
    weights: str = "auto"
    darknet_cfg: Path | None = None
    names: Path | None = None
    batch_size: int = 1
    vid_stride: int = 1
    output: str | None = None
    resume: Path | None = None
    shard: Shard | None = None
    format: tuple[str, ...] = ("jsonl",)
    media: MediaChoice = "all"
    labels: LabelStyle = "score"
    show: bool = False
    track: TrackOptions | None = None


def detect(options: DetectOptions) -> int:
    """Run, print, write; the exit code: 0 done, 1 some inputs failed or the user interrupted, 2 it broke off.

    Raises:
        UserError: nothing can be done: bad weights or options, no readable input, no place to write to.
    """
    report = Report(sys.stderr if options.output == STDOUT else sys.stdout)
    if options.track is not None:
        options.track.check()
    if options.show:
        check_display()
    loaded = load_for_inference(options.weights, darknet_cfg=options.darknet_cfg, names=options.names, options=options)
    for note in loaded.notes:
        report.say(note)
    if options.classes is not None and not options.sources:
        classes, sources_among = split_sources(options.classes, loaded.metadata.names)
        options = replace(options, classes=tuple(classes), sources=tuple(sources_among))
    predictor = open_predictor(loaded, options, report)
    viewer = Viewer(options.labels, predictor.limits, report.say) if options.show else None
    limits = predictor.limits if options.track is None else followed(predictor.limits)
    if options.show:
        limits = lowered(limits)  # lower-scoring objects too, for the user to look at
    specs = options.sources or default_sources()
    folders = [Path(spec) for spec in specs if not is_url(spec)]
    if (unread := describe_unread_files(folders, videos=True)) is not None:
        report.say(unread)
    sources, resume_at = _sources_to_do(options, specs, predictor, report)
    report.start_clock()
    started = open_results(sources, predictor, options.batch_size, limits=limits, report=report)
    if options.track is not None:
        started = TrackedResults(started, options.track, predictor.limits, keep_candidates=options.show)
        report.tracks = started.counts
    with closing(predictor), closing(started) as results:
        while isinstance(first := results.peek(), Failure):
            report.fail(first.message)
            next(results)
        if first is None and not (options.shard or options.resume):
            raise UserError("no input could be read")
        # The folder is made only now, so that a run that can do nothing leaves nothing behind.
        output = options.resume or _output_folder(options.output, specs[0], first.source if first else None)
        with locked_output(output) if output else nullcontext():
            sinks = build_sinks(
                output, formats=options.format, media=options.media, labels=options.labels, resume_at=resume_at
            )
            if viewer and output:
                viewer.snapshots = output / "snapshots"
            code = _deliver(results, sinks, report, viewer)
    return max(code, report.finish(output))


def _sources_to_do(
    options: DetectOptions, specs: tuple[str, ...], predictor: Predictor, report: Report
) -> tuple[Iterator[Source], int | None]:
    """The sources of the run's shard that are not done yet, and the byte at which its JSON lines are continued."""
    # What is drawn, shown or tracked is read whole; for --media hits only images with a detection, later.
    drawn = options.show or (options.media == "all" and options.output != STDOUT)
    needed = None if drawn or options.track is not None else predictor.needed_size
    sources = resolve_sources(specs, vid_stride=options.vid_stride, depth=predictor.depth, needed=needed)
    if options.shard:
        report.say(f"shard {options.shard}")
        sources = options.shard.of(sources)
    if options.resume is None:
        return sources, None
    if options.output:
        raise UserError("--resume and --output exclude each other: the folder to resume is the output")
    if not options.resume.is_dir():
        raise UserError(f"{options.resume}: no such folder; --resume takes the output folder of an earlier run")
    finished, resume_at = finished_sources(options.resume)
    report.say(f"resuming {options.resume}: {len(finished)} done")
    return (_without_end_refused(each) for each in sources if each.name not in finished), resume_at


def _without_end_refused(source: Source) -> Source:
    if source.kind != "stream":
        return source
    return failed_source(source.name, f"{source.name}: a live source cannot be resumed: choose another --output")


def open_predictor(loaded: LoadedDetector, options: DetectOptions, report: Report) -> Predictor:
    """The detector ready for use; ``report`` says which backend was chosen."""
    workload = expected_workload(options.sources or default_sources())
    predictor = Predictor(loaded.detector, loaded.metadata, replace(options, workload=workload))
    report.say(predictor.backend_note)
    share_processors(predictor)
    return predictor


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
            closing(written(results, sinks, viewer.limits if viewer else None)) as done,
        ):
            try:
                for result in _attended(done, viewer, request):
                    report.take(result)
                    if viewer and isinstance(result, Result) and not _shown(result, viewer, request):
                        break
            except KeyboardInterrupt:
                if request.repeated:
                    raise
                # The first signal raises only while a window is looked after.
                request.requested = True
            if request.requested:
                code = 1
                report.stop("interrupted: what was done so far is kept")
            results.stop()
            for result in done:  # what was under way
                report.take(result)
    except UserError as error:
        code = 2
        report.stop(f"error: {error}")
    return code


def _attended(
    done: Background[Result | Failure], viewer: Viewer | None, request: StopRequest
) -> Iterator[Result | Failure]:
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


def _output_folder(given: str | None, spec: str, first: Source | None) -> Path | None:
    """Return the output folder: as given, else a new one named after the first source; None for standard output."""
    if given == STDOUT:
        return None
    if not given:
        return next_output_dir(OUTPUT_BASE, _run_name(spec, first))
    with write_errors(Path(given)):
        Path(given).mkdir(parents=True, exist_ok=True)
    return Path(given)


def _run_name(spec: str, first: Source | None) -> str:
    """What a run over ``spec``, which begins with the source ``first``, is called: never with a password."""
    if spec == "-":
        return "stdin"
    if is_url(spec) or spec.isdecimal():  # an address or a camera
        return str(first.relative_path) if first else "empty"
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(spec).parts)).absolute().name
