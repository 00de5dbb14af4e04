"""Runs ``detect.py --engine``: detects in many images with the workers of an engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path

from yolofpn.addresses import STREAM_SCHEMES, local_path, shown
from yolofpn.bands import Bands
from yolofpn.engines.cluster import ClusterOptions, connected
from yolofpn.engines.coco_file import write_coco
from yolofpn.engines.earlier_run import resume_run, start_run
from yolofpn.engines.engine_report import EngineReport
from yolofpn.engines.job import Job
from yolofpn.engines.listing import check_sources
from yolofpn.engines.part_files import PARTS, ParquetPart, part_of
from yolofpn.engines.ray_data import run_units
from yolofpn.engines.storage import join, make_folder
from yolofpn.engines.unit_detector import UnitReport
from yolofpn.engines.units import DoneUnits
from yolofpn.engines.weights_files import pack_weights
from yolofpn.errors import DONE, NOTHING_DONE, SOME_FAILED, UserError, install_hint
from yolofpn.extras import is_installed
from yolofpn.files import locked_output
from yolofpn.inference.detection_run import OUTPUT_BASE, STDOUT, DetectOptions
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor_options import PredictorOptions
from yolofpn.inference.selection import choose_limits
from yolofpn.sinks.coco_results import CocoSink
from yolofpn.sinks.output_names import next_output_dir

PART_SIZE = 256  # images; a worker that is killed loses no more


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Flags of ``--engine ray``, beside those of every run.

    Attributes:
        detect: what all runs take.
        resume: folder or address of the run that is resumed.
        column: of the paths in Parquet and CSV files.
        part_size: images of a part file.
        cluster: where the workers run.
    """

    detect: DetectOptions
    resume: str | None = None
    column: str | None = None
    part_size: int = PART_SIZE
    cluster: ClusterOptions = ClusterOptions()  # noqa: RUF009  # frozen


def detect_with_engine(options: EngineOptions) -> int:
    """Run, print, write; the exit code: 0 done, 1 some inputs failed or the user interrupted, 2 nothing was done.

    Raises:
        UserError: nothing can be done: bad weights or flags, no readable input, no place to write to, no engine.
    """
    detect = options.detect
    form = _check(options)
    report = EngineReport()
    predictor_options = _predictor_options(options)
    loaded = load_for_inference(
        detect.weights, darknet_cfg=detect.darknet_cfg, names=detect.names, options=predictor_options
    )
    for note in loaded.notes:
        report.say(note)
    choose_limits(
        loaded.detector.limits, loaded.metadata.names, classes=detect.classes
    )  # a mistyped class ends it here
    bands = isinstance(predictor_options.reading(loaded.metadata.input), Bands)
    check_sources(detect.sources, options.column, bands=bands)
    weights, contents = pack_weights(loaded)
    with connected(options.cluster, sum(map(len, contents))):
        output = _output(options)
        job = Job(
            detect.sources,
            options.column,
            str(Path.cwd()),
            output,
            form,
            detect.batch_size,
            options.part_size,
            predictor_options,
            bands,
            loaded.metadata.names,
            loaded.metadata.category_ids,
        )
        with _locked(output):
            done = DoneUnits()
            if options.resume is None:
                start_run(job, weights.digest)
            else:
                done = resume_run(job, weights.digest)
                report.say(f"resuming {shown(output)}: {len(done.images)} done")
            reports = run_units(job, weights, contents, done, options.cluster, report.say)
            code = _take_reports(reports, job, report)
            if code == DONE and CocoSink.key in detect.format:
                write_coco(job, loaded.metadata)
    report.finish(shown(output))
    if code == DONE and not (report.images or len(done.images)):
        print("error: no input could be read", file=sys.stderr)
        return NOTHING_DONE
    return max(code, SOME_FAILED if report.failed else DONE)


def _take_reports(reports: Iterator[UnitReport], job: Job, report: EngineReport) -> int:
    """Count them; the exit code: 1 if the user interrupted, 2 if it broke off, else 0."""
    try:
        for unit in reports:
            if unit.fatal:
                raise UserError(unit.fatal)
            _check_shared(job, unit)
            report.take(unit)
    except KeyboardInterrupt:
        print(f"interrupted: what was done is kept; resume with --resume {shown(job.output)}", file=sys.stderr)
        return SOME_FAILED
    except UserError as error:
        if not (report.images or report.failed):
            raise
        print(f"error: {error}", file=sys.stderr)
        return NOTHING_DONE
    return DONE


def _check_shared(job: Job, unit: UnitReport) -> None:
    """See that this machine has the files that workers of other machines write.

    Raises:
        UserError: it has not, so the results would be scattered over the machines.
    """
    path = local_path(join(job.output, unit.name + part_of(job.form).suffix))
    if path is not None and not path.exists():
        raise UserError(
            f"{path}: was written on another machine: give --output a folder that all machines share, or an address "
            "such as s3://BUCKET/RUN"
        )


def _check(options: EngineOptions) -> str:
    """The format of the part files.

    Raises:
        UserError: flags exclude each other, or make no sense with an engine.
    """
    detect = options.detect
    if not detect.sources:
        raise UserError("--engine needs a source: name images, a folder, a list, a table, tar files or an address")
    senseless = {
        "--show": detect.show,
        "--track": detect.track is not None,
        "--shard": detect.shard is not None,
        "--vid-stride": detect.vid_stride != 1,
        "--media": detect.media != "none",
        "--output -": detect.output == STDOUT,
        "- as a source": "-" in detect.sources,
    }
    if given := [flag for flag, is_given in senseless.items() if is_given]:
        raise UserError(f"{given[0]} does not apply to --engine, which detects in images and writes files only")
    for source in detect.sources:
        if source.isdecimal() or source.partition("://")[0].lower() in STREAM_SCHEMES:
            raise UserError(
                f"{shown(source)}: is a live source, which engines do not take; run without --engine for it"
            )
    if options.resume and detect.output:
        raise UserError("--resume and --output exclude each other: the folder to resume is the output")
    parts = [part.key for part in PARTS if part.key in detect.format]
    if others := set(detect.format) - {*parts, CocoSink.key}:
        raise UserError(f"--format {min(others)} is not written by engines: choose parquet or jsonl, and coco")
    if len(parts) > 1:
        raise UserError("--format: an engine writes parquet or jsonl, not both")
    if CocoSink.key in detect.format and parts != [ParquetPart.key]:
        raise UserError("--format coco needs the scores in full: give --format parquet,coco")
    if not is_installed("ray"):
        raise UserError(f"ray is not installed: {install_hint('ray')}")
    return parts[0]


def _output(options: EngineOptions) -> str:
    """The folder or address of the results, which exists if it is a folder of this machine."""
    given = options.resume or options.detect.output
    if not given:
        spec = options.detect.sources[0]
        name = Path(shown(spec).partition("://")[2] or spec).absolute().name
        return str(next_output_dir(OUTPUT_BASE, name).absolute())
    path = local_path(given)
    if path is None:
        return given
    if options.resume and not path.is_dir():
        raise UserError(f"{path}: no such folder; --resume takes the output of an earlier run")
    make_folder(given)
    return str(path.absolute())


def _locked(output: str) -> AbstractContextManager[None]:
    path = local_path(output)
    return nullcontext() if path is None else locked_output(path)


def _predictor_options(options: EngineOptions) -> PredictorOptions:
    """Those of the workers, which have GPUs if they are asked for, whatever this machine has."""
    detect = options.detect
    found = PredictorOptions(**{each.name: getattr(detect, each.name) for each in fields(PredictorOptions)})
    if options.cluster.gpus_per_worker and found.device == "auto":
        return replace(found, device="cuda")
    return found
