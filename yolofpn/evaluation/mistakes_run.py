"""Runs ``yolofpn mistakes``: detects on a data set and writes what its labels and the detector disagree on."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from yolofpn.errors import UserError
from yolofpn.evaluation.closer_views import look_closer
from yolofpn.evaluation.evaluation_run import EvaluateOptions, open_predictor, open_split
from yolofpn.evaluation.mistakes import find_mistakes
from yolofpn.evaluation.mistakes_page import write_mistakes
from yolofpn.evaluation.run_detector import RunSettings, run_detector
from yolofpn.files import locked_output, write_errors
from yolofpn.sinks.output_names import next_output_dir

OUTPUT_BASE = Path("runs/mistakes")


def mistakes(options: EvaluateOptions, count: int, *, quick: bool = False) -> int:
    """Write the page of ``count`` images and the lists; return exit code 0, or 1 if images cannot be read.

    Args:
        options: data, weights and settings of the detector.
        count: images on the page.
        quick: detect in whole images only.

    Raises:
        UserError: if weights, data or options are bad, no class is in common, or the output cannot be written.
    """
    predictor = open_predictor(options)
    with closing(predictor):
        dataset, match = open_split(options, predictor)
        output = options.output
        if output is None:
            output = next_output_dir(OUTPUT_BASE, Path(options.data).absolute().as_posix())
        with write_errors(output):
            output.mkdir(parents=True, exist_ok=True)
        with locked_output(output):
            settings = RunSettings(options.batch_size, options.workers, options.score_thresh)
            if quick or predictor.detector.needs_proposals:  # which come from a file, for whole images
                found, enlarged = run_detector(predictor, dataset, match, settings), None
            else:
                found, enlarged = look_closer(predictor, dataset, match, settings)
            if len(found.failures) == len(dataset):
                raise UserError(f"{options.data}: none of the {len(dataset)} images can be read")
            unreadable = {int(dataset.image_ids[index]) for index in found.failures}
            unknown = {label for label in range(len(dataset.names)) if label not in match.mapping}
            suggestions = [
                each
                for each in find_mistakes(found.metrics.table(), enlarged)
                if each.image_id not in unreadable and each.label not in unknown  # nothing to compare with
            ]
            title = f"Suspected label errors of {options.data}"
            shown = write_mistakes(output, dataset, suggestions, title, count)
    if unknown:
        names = ", ".join(dataset.names[label] for label in sorted(unknown))
        print(f"not checked, as the weights do not have them: {names}")
    kinds = Counter(str(each.kind) for each in suggestions)
    print(", ".join(f"{number} {kind}" for kind, number in kinds.most_common()) or "no suggestions")
    print(f"{len(suggestions)} suggestions; the {shown} most suspicious images: {output / 'index.html'}")
    if found.failures:
        print(f"failed: {len(found.failures)} images could not be read", file=sys.stderr)
    return 1 if found.failures else 0
