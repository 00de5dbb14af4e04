"""Trains and evaluates every row of a study; finished rows are skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import yolofpn
from studies.study_plan import Size, Study, StudyRow, choose_rows, keep_settings, load_study, recipes_of
from yolofpn.config import Config, load_config
from yolofpn.errors import DONE, SOME_FAILED, UserError
from yolofpn.files import write_errors
from yolofpn.text import as_yaml, command
from yolofpn.training.checkpoint import LAST, read_checkpoint

RESULTS, NEW_RESULTS, LOG = "results.json", "new-results.json", "log.txt"
PROPOSALS = {"train": "proposals-train.json", "val": "proposals-val.json"}
LOG_LINES = 3  # that are shown of a run that failed
STRIDE = 32  # sizes of an image pyramid are multiples of it


@dataclass(frozen=True)
class StudyOptions:
    """Options of ``study run``, see its --help."""

    study: Path
    output: Path
    size: Size
    rows: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Job:
    """A run: one row with one seed.

    Attributes:
        name: of the row.
        row: what it is.
        seed: of all that is random in its training.
        folder: where its results go.
        weights: the training's folder: its own, or that of the row whose weights it takes.
        proposals: the folder of the row whose proposals it takes.
        is_source: whether others take its proposals.
    """

    name: str
    row: StudyRow
    seed: int
    folder: Path
    weights: Path
    proposals: Path | None = None
    is_source: bool = False

    def __str__(self) -> str:
        return f"row {self.name}, seed {self.seed}"

    @property
    def is_done(self) -> bool:
        """Return whether the run was evaluated and has the files that other rows need."""
        return (self.folder / RESULTS).exists() and (not self.is_source or _has_proposals(self.folder))


def run_study(options: StudyOptions) -> int:
    """Train and evaluate unfinished rows; return exit code 0, or 1 if some failed.

    The first seed of all rows comes first, so that there is a whole table early on.

    Raises:
        UserError: if the study cannot be read, or the output folder holds another one.
    """
    study = load_study(options.study)
    names = choose_rows(study, options.rows)
    keep_settings(options.output, options.study, options.size, recipes_of(study, options.study.parent))
    failed = 0
    for seed in options.seeds:
        for name in names:
            job = make_job(study, name, seed, options.output)
            if job.is_done:
                print(f"{job}: done before", flush=True)
                continue
            try:
                _run(job, study, options)
            except UserError as error:
                failed += 1
                print(f"failed: {job}: {error}", file=sys.stderr, flush=True)
    print(f"{command('study')} compare {options.output}")
    return 1 if failed else 0


def make_job(study: Study, name: str, seed: int, output: Path) -> Job:
    """Return the folder of a row with a seed."""
    row = study.rows[name]
    trained = row.weights_of or name
    source = study.rows[trained].proposals_of
    is_source = any(other.proposals_of == name for other in study.rows.values())
    own, weights, proposals = (output / (each or name) / f"seed-{seed}" for each in (name, trained, source))
    return Job(name, row, seed, own, weights, proposals if source else None, is_source)


def _run(job: Job, study: Study, options: StudyOptions) -> None:
    """Train if need be, then evaluate.

    Raises:
        UserError: if one of them failed.
    """
    start = time.perf_counter()
    if job.proposals is not None and not _has_proposals(job.proposals):
        raise UserError(f"row {job.proposals.parent.name}, whose proposals it takes, has none with this seed")
    print(f"{job}: begins; {job.folder / LOG}", flush=True)
    training = training_command(job, study, options)
    if training is not None:
        _call(job.folder, training)
    _call(job.folder, evaluation_command(job, options.size))
    if job.is_source:
        _call(job.folder, proposals_command(job, options.size))
    else:
        (job.folder / PROPOSALS["val"]).unlink(missing_ok=True)  # measured, and large
    with write_errors(job.folder):
        (job.folder / NEW_RESULTS).replace(job.folder / RESULTS)
    values = json.loads((job.folder / RESULTS).read_text())
    minutes = (time.perf_counter() - start) / 60
    print(f"{job}: AP {values['AP']:.3f} AP50 {values['AP50']:.3f} in {minutes:.1f} min", flush=True)


def training_command(job: Job, study: Study, options: StudyOptions) -> list[str] | None:
    """Words for ``python -m yolofpn``: begin or go on; None if there is nothing left to train.

    Raises:
        UserError: if the row takes its weights from one that has none yet.
    """
    if job.row.cfg is None:
        if not _is_trained(job.weights):
            raise UserError(f"row {job.row.weights_of}, whose weights it takes, is not trained with this seed")
        return None
    if _is_trained(job.weights):
        return None
    if (job.weights / LAST).exists():
        return ["train", "--resume", str(job.weights)]
    size = options.size
    flags = {
        "--cfg": options.study.parent / job.row.cfg,
        "--data": size.data,
        "--weights": size.weights or "none",
        "--seed": job.seed,
        "--device": size.device,
        "--output": job.weights,
    }
    # What the user asks for comes last: of two overrides of one key the later one counts.
    overrides = [*study.overrides, *job.row.overrides, *_proposal_overrides(job), *_size_overrides(size)]
    overrides += size.overrides
    return ["train", *_flags(flags), *overrides]


def evaluation_command(job: Job, size: Size) -> list[str]:
    """Words for ``python -m yolofpn``: measure detections and proposals as the training's data set has them.

    Raises:
        UserError: if the training left nothing readable behind.
    """
    config = load_config(job.weights / "config.yaml")
    words = _evaluate(job, size, config)
    if job.row.pyramid is not None:
        words += ["--pyramid", _pyramid(job.row.pyramid, config)]
    files = {"--json": job.folder / NEW_RESULTS}
    if job.proposals is None:
        files["--save-proposals"] = job.folder / PROPOSALS["val"]
    else:
        files["--proposals"] = job.proposals / PROPOSALS["val"]
    return [*words, *_flags({**files, "--output": job.folder / "evaluation"})]


def proposals_command(job: Job, size: Size) -> list[str]:
    """Words for ``python -m yolofpn``: write the proposals of the images that it was trained on.

    Raises:
        UserError: if the training left nothing readable behind.
    """
    words = _evaluate(job, size, load_config(job.weights / "config.yaml"))
    files = {"--save-proposals": job.folder / PROPOSALS["train"], "--output": job.folder / "evaluation-train"}
    return [*words, *_flags({"--split": "train", **files})]


def _evaluate(job: Job, size: Size, config: Config) -> list[str]:
    assert config.data is not None  # what it was trained on
    words = ["evaluate", "--weights", str(job.weights), "--data", config.data.source]
    if config.data.root is not None:
        words.append(f"data.root={config.data.root}")
    return [*words, *_flags({"--device": size.device, "--workers": config.train.workers, "--backend": "torch"})]


def _has_proposals(folder: Path) -> bool:
    return all((folder / name).exists() for name in PROPOSALS.values())


def _proposal_overrides(job: Job) -> list[str]:
    if job.proposals is None:
        return []
    return [f"data.proposals={as_yaml({split: str(job.proposals / name) for split, name in PROPOSALS.items()})}"]


def _is_trained(folder: Path) -> bool:
    try:
        finished: bool = read_checkpoint(folder / LAST, only_look=True)["progress"]["finished"]
    except UserError:
        return False
    return finished


def _size_overrides(size: Size) -> list[str]:
    values = {
        "train.epochs": size.epochs,
        "train.batch_size": size.batch_size,
        "input.size": size.img_size,
        "train.workers": size.workers,
    }
    return [f"{key}={as_yaml(value)}" for key, value in values.items() if value is not None]


def _flags(values: Mapping[str, object]) -> list[str]:
    return [word for flag, value in values.items() if value is not None for word in (flag, str(value))]


def _pyramid(scales: Sequence[float], config: Config) -> str:
    """Return the value of ``--pyramid``: multiples of the input size, rounded to the stride."""
    sizes = [[max(round(side * scale / STRIDE), 1) * STRIDE for side in config.input.size] for scale in scales]
    return ",".join(f"{height}x{width}" for height, width in sizes)


def _call(folder: Path, words: Sequence[str]) -> None:
    """Run ``python -m yolofpn WORDS``, with what it prints in the folder's log.

    Raises:
        UserError: if it failed.
        KeyboardInterrupt: if it, or the study, was interrupted.
    """
    log = folder / LOG
    with write_errors(log):
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            code = _wait([sys.executable, "-m", "yolofpn", *words], file)
    if code == SOME_FAILED and words[0] == "train":
        raise KeyboardInterrupt
    if code not in (DONE, SOME_FAILED):
        said = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        raise UserError("\n  ".join([f"{words[0]} ended with exit code {code}:", *said]))


def _wait(command: Sequence[str], log: TextIO) -> int:
    """Run it to its end; if this process is interrupted, so is the other one, once."""
    package = str(Path(yolofpn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    # In a session of its own Ctrl-C does not reach it, so that it is asked to stop once and not twice.
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()  # it writes a checkpoint, from which the next run goes on
        process.wait()
        raise
    finally:
        if process.poll() is None:
            process.kill()
