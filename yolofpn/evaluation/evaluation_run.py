"""Runs ``evaluate.py``: evaluates weights on a data set, prints metrics and writes files."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolofpn.config import VocCorners
from yolofpn.data.class_names import ClassMatch, match_classes
from yolofpn.data.dataset import DetectionDataset, ProblemKind
from yolofpn.data.layouts import open_data
from yolofpn.data.proposal_files import how_to_write, with_proposals
from yolofpn.errors import UserError
from yolofpn.evaluation.best_thresholds import SUFFIX, save_thresholds
from yolofpn.evaluation.class_groups import class_groups_of, format_groups, group_metrics
from yolofpn.evaluation.metric_tables import format_crowded, format_metrics, format_proposals
from yolofpn.evaluation.metrics import PROPOSAL_LIMITS, Metrics, class_agnostic_recall, crowded_images
from yolofpn.evaluation.output_files import (
    WrittenIds,
    prepare_output,
    write_detections,
    write_images,
    write_json,
    write_plots,
    write_truth,
    write_worst_images,
)
from yolofpn.evaluation.proposal_recall import write_proposals
from yolofpn.evaluation.run_detector import Found, RunSettings, run_detector
from yolofpn.evaluation.verify import verify
from yolofpn.extras import skipped_plots
from yolofpn.files import locked_output
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import PredictorOptions, Workload
from yolofpn.inference.threads import share_processors

DETECTIONS, IMAGES, TRUTH = "detections.coco.json", "images.json", "truth.coco.json"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(PredictorOptions):
    """What ``evaluate.py --help`` explains; what is not given is left to the weights."""

    data: str
    root: Path | None = None
    voc_corners: VocCorners | None = None
    split: str = "val"
    weights: str = "auto"
    darknet_cfg: Path | None = None
    names: Path | None = None
    batch_size: int = 8
    workers: int | None = None
    score_thresh: float = 0.001
    nms_thresh: float = 0.6
    detections_per_img: int = 300
    workload: Workload = "live"  # a whole data set is worth a faster graph; batch after batch is awaited
    report_thresh: float = 0.25
    output: Path | None = None
    json: Path | None = None
    save_thresholds: Path | None = None
    save_proposals: Path | None = None
    verify: bool = False
    proposals: Path | None = None


def evaluate(options: EvaluateOptions) -> int:
    """Evaluate; return exit code 0, or 1 if images are missing or unreadable, or --verify differs.

    Raises:
        UserError: if weights, data or options are bad, no class is in common, or the output cannot be written.
    """
    if options.save_thresholds is not None and options.save_thresholds.suffix != SUFFIX:
        raise UserError(f"{options.save_thresholds}: the file must end in {SUFFIX}: other formats hold no thresholds")
    predictor = open_predictor(options)
    dataset, match = open_split(options, predictor)
    output = prepare_output(options.output, options.data)
    with locked_output(output):
        return measure(options, predictor, dataset, match, output)


def measure(
    options: EvaluateOptions, predictor: Predictor, dataset: DetectionDataset, match: ClassMatch, output: Path
) -> int:
    """Detect, compute and print metrics, and write them to ``output``; return the exit code.

    Raises:
        UserError: if no image can be read, or a file cannot be written.
    """
    start = time.perf_counter()
    collects = options.save_proposals is not None or predictor.detector.class_agnostic
    settings = RunSettings(options.batch_size, options.workers, options.score_thresh, with_proposals=collects)
    with closing(predictor):
        found = run_detector(predictor, dataset, match, settings)
    if len(found.failures) == len(dataset):
        raise UserError(f"{options.data}: none of the {len(dataset)} images of {options.split!r} can be read")
    many = options.detections_per_img >= max(PROPOSAL_LIMITS)
    metrics = found.metrics.compute(options.report_thresh, voc=True, proposals=many)
    seconds = time.perf_counter() - start
    print(format_metrics(metrics))
    numbers = {**metrics.to_json(), "seconds": seconds}
    if groups := class_groups_of(options.weights, predictor.names):
        results = group_metrics(metrics, groups)
        print(f"\n{format_groups(results)}")
        numbers["groups"] = [each.to_json() for each in results]
    if found.proposals is not None:
        numbers["proposals"] = class_agnostic_recall(found.proposals.table())
        print(format_proposals(numbers["proposals"]))
    crowded = crowded_images(found.metrics.table(), options.detections_per_img)
    if crowded is not None:
        print("\n".join(format_crowded(crowded, options.detections_per_img)))
        if crowded.values:
            numbers["AP_at_max_det"] = crowded.values["AP"]
    print(f"images: {len(dataset)} in {seconds:.1f} s, of which {metrics.seconds:.1f} s for the metrics")
    write_files(output, options, dataset, found, metrics, numbers)
    if options.save_thresholds is not None:
        print(save_thresholds(options.save_thresholds, predictor, match, found.metrics.table(), options.report_thresh))
    agrees = not options.verify or _verify(output, metrics)
    print(f"results: {output}")
    return _exit_code(dataset, found) if agrees else 1


def _verify(output: Path, metrics: Metrics) -> bool:
    agrees, line = verify(output / TRUTH, output / DETECTIONS, metrics.values)
    print(line, file=None if agrees else sys.stderr)
    return agrees


def open_predictor(options: EvaluateOptions) -> Predictor:
    """Open the predictor for the options and print the choices made."""
    loaded = load_for_inference(options.weights, darknet_cfg=options.darknet_cfg, names=options.names)
    for note in loaded.notes:
        print(note)
    predictor = Predictor(loaded.detector, loaded.metadata, options)
    print(predictor.backend_note)
    share_processors(predictor)
    sizes = " and ".join(f"{height}x{width}" for height, width in predictor.sizes)
    tiles = "" if predictor.tile is None else f", tiles of {predictor.tile[0]}x{predictor.tile[1]} and whole images"
    print(f"input: {sizes}, {predictor.resize}{tiles}; {predictor.device}")
    return predictor


def open_split(options: EvaluateOptions, predictor: Predictor) -> tuple[DetectionDataset, ClassMatch]:
    """Open the split, match its classes with the detector's, and print both.

    Raises:
        UserError: if the data set cannot be read, or has no class of the detector's.
    """
    source = open_data(options.data, options.root, options.voc_corners)
    dataset = replace(source.load(options.split), depth=predictor.depth)
    print("\n".join(source.notes))
    if predictor.detector.class_agnostic:
        dataset = dataset.as_one_class()
    if predictor.detector.needs_proposals:
        dataset = _with_given_proposals(dataset, options)
    elif options.proposals is not None:
        raise UserError("--proposals: only Fast R-CNN (head.type fast_rcnn) takes proposals from a file")
    match = match_classes(predictor.names, predictor.metadata.category_ids, dataset.names, dataset.category_ids)
    if match.how is None:
        raise UserError(
            f"the weights and {options.data} have no class in common: the weights have {_listed(predictor.names)}\n"
            f"the data set has {_listed(dataset.names)}; --names FILE renames the classes of the weights"
        )
    print(match)
    return dataset, match


def _with_given_proposals(dataset: DetectionDataset, options: EvaluateOptions) -> DetectionDataset:
    if options.proposals is None:
        raise UserError(
            f"{options.weights}: Fast R-CNN finds no proposals itself: name a file with --proposals FILE\n"
            + how_to_write(options.split)
        )
    dataset, note = with_proposals(dataset, options.proposals, options.split)
    print(note)
    return dataset


def write_files(
    output: Path,
    options: EvaluateOptions,
    dataset: DetectionDataset,
    found: Found,
    metrics: Metrics,
    numbers: Mapping[str, Any],
) -> None:
    """Write all files to ``output``, and metrics and proposals to ``--json`` and ``--save-proposals``.

    Raises:
        UserError: if a file cannot be written.
    """
    ids = WrittenIds.of(dataset)
    write_json(output / "results.json", {**numbers, "settings": asdict(options)})
    if options.json is not None:
        write_json(options.json, numbers)
    if options.save_proposals is not None and found.proposals is not None:
        write_proposals(options.save_proposals, found.proposals, ids)
    table, detections = found.metrics.table(), found.detections(dataset)
    write_detections(output / DETECTIONS, detections, ids, exact=options.verify)
    write_images(output / IMAGES, dataset, ids)
    if options.verify:
        write_truth(output / TRUTH, dataset, (target for _, _, target in found.metrics.images()), ids)
    for line in skipped_plots("matplotlib"):
        print(line)
    write_plots(output, metrics, table)
    write_worst_images(output / "worst", dataset, detections, table, options.report_thresh, found.failures.keys())


def _exit_code(dataset: DetectionDataset, found: Found) -> int:
    missing = [problem for problem in dataset.problems if problem.kind is ProblemKind.MISSING_IMAGE]
    if missing:
        count = f"{len(missing)} images are" if len(missing) > 1 else "1 image is"
        print(f"failed: {count} missing and not evaluated, such as {missing[0].file}", file=sys.stderr)
    if found.failures:
        count = f"{len(found.failures)} images" if len(found.failures) > 1 else "1 image"
        print(f"failed: {count} could not be read: what they show counts as not found", file=sys.stderr)
    return 1 if missing or found.failures else 0


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
