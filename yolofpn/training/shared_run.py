"""What all processes of a run agree on before it starts: whether it is resumed, its plan, and its checkpoint.

Only the main process needs the run folder. The others take plan and checkpoint from it, and read their data where
their own flags say.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolofpn.errors import UserError
from yolofpn.training.asked_for import refuse_other_request
from yolofpn.training.checkpoint import LAST, Progress, read_checkpoint
from yolofpn.training.distributed import Ranks, from_main, gather
from yolofpn.training.run_plan import Plan, TrainOptions, make_plan, resumed_config

_FACTS = ("metadata", "images", "samples", "content")


def finished_run(options: TrainOptions, ranks: Ranks) -> Progress | None:
    """How far the run of ``--auto-resume`` came, if it is finished; else None.

    Raises:
        UserError: flags contradict each other or, in the main process, what the run began with; or torchrun's restarts
            would start anew.
    """
    _check(options)
    if not options.auto_resume or not _has_checkpoint(options, ranks):
        return None
    progress: Progress | None = from_main(_finished(options) if ranks.is_main else None)
    return progress


def _finished(options: TrainOptions) -> Progress | None:
    content = read_checkpoint(_checkpoint(options), only_look=True)
    now = make_plan(replace(options, auto_resume=False)).asked
    refuse_other_request(Path(options.output or ""), content["asked"], now, longer=options.epochs is not None)
    progress = Progress(**content["progress"])
    return progress if progress.finished and (options.epochs or 0) <= progress.epoch else None


def plan_for(options: TrainOptions, ranks: Ranks) -> Plan:
    """The plan that the flags of train.py ask for; the same in all processes but for the places of the data.

    Raises:
        UserError: no cfg is given, it is wrong, the run that should be resumed cannot, or only a process that is not
            the main one has its checkpoint.
    """
    if options.auto_resume:
        own = make_plan(replace(options, auto_resume=False))
        if not _has_checkpoint(options, ranks):
            return own
        kept = ("epochs", "workers", "device", "output")
        resumed = TrainOptions(resume=options.output, **{name: getattr(options, name) for name in kept})
        plan = _plan_of_main(resumed, ranks)
        return replace(plan, config=plan.config.model_copy(update={"data": own.config.data}))
    if options.resume is None or ranks.world_size == 1:
        return make_plan(options)
    plan = _plan_of_main(options, ranks)
    return replace(plan, config=resumed_config(plan.config, options))


def checkpoint_of_main(path: Path, ranks: Ranks) -> Mapping[str, Any]:
    """The checkpoint that the main process reads.

    Raises:
        UserError: in the main process, if it cannot be read.
    """
    content: Mapping[str, Any] = from_main(read_checkpoint(path) if ranks.is_main else None)
    return content


def facts_of_main(path: Path, ranks: Ranks) -> Mapping[str, Any]:
    """What the main process's checkpoint says of the data that the run began with.

    Raises:
        UserError: in the main process, if it cannot be read.
    """
    content = read_checkpoint(path, only_look=True) if ranks.is_main else {}
    facts: Mapping[str, Any] = from_main({name: content[name] for name in _FACTS if name in content})
    return facts


def _plan_of_main(options: TrainOptions, ranks: Ranks) -> Plan:
    plan: Plan = from_main(make_plan(options) if ranks.is_main else None)
    return plan


def _has_checkpoint(options: TrainOptions, ranks: Ranks) -> bool:
    """Whether the main process has the checkpoint of ``--auto-resume``."""
    places = gather(_checkpoint(options).is_file())
    if any(places) and not places[0]:
        raise UserError(
            f"{options.output}: process {places.index(True)} has a checkpoint of this run and the main process has "
            "none: the machines were numbered otherwise before\n"
            "give --output on storage that all of them see, or number them with torchrun --node-rank"
        )
    return bool(places[0])


def _checkpoint(options: TrainOptions) -> Path:
    return Path(options.output or "") / LAST


def _check(options: TrainOptions) -> None:
    if options.auto_resume:
        if options.output is None:
            raise UserError("--auto-resume needs --output DIR, the folder in which it finds the run")
        for flag, given in (("--resume", options.resume is not None), ("--dry-run", options.dry_run)):
            if given:
                raise UserError(f"--auto-resume and {flag} cannot be given together")
    elif options.resume is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0:
        raise UserError(
            "--max-restarts starts this command again, which would begin a new run: "
            "give train.py --auto-resume and --output DIR"
        )
