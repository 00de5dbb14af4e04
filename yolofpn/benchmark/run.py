"""One run of ``benchmark.py``: what was asked for is measured, printed and written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from yolofpn.benchmark.machine import describe_machine, describe_versions
from yolofpn.benchmark.training import TrainingRow, measure_training
from yolofpn.errors import UserError
from yolofpn.evaluation.files import write_json
from yolofpn.hardware import choose_device
from yolofpn.training.distributed import Ranks
from yolofpn.training.plan import TrainOptions, make_plan
from yolofpn.training.setup import set_up

FORMAT_VERSION = 1
# Every batch has the size that is asked for, and pictures are combined however long it takes.
TRAINING_OVERRIDES = ("train.multi_scale=null", "train.epochs=1000000", "augment.close_epochs=0")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What ``benchmark.py --help`` explains; empty lists are left to the weights."""

    weights: tuple[str, ...] = ()
    data: str | None = None
    precision: tuple[str, ...] = ()
    img_size: tuple[tuple[int, int], ...] = ()
    batch_size: tuple[int, ...] = ()
    device: str = "auto"
    workers: int | None = None
    train: bool = False
    rounds: int = 5
    json: Path | None = None
    overrides: tuple[str, ...] = ()


def benchmark(options: BenchmarkOptions) -> int:
    """Measure, print, write; the exit code: 0 done, 1 a loss was not finite.

    Raises:
        UserError: nothing can be measured as asked.
    """
    report: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    print("machine: " + ", ".join(f"{name} {value}" for name, value in describe_machine().items()))
    rows = []
    for row in training_rows(options):
        rows.append(row)
        print("\n".join(row.lines()), flush=True)
    report["training"] = [row.to_json() for row in rows]
    if options.json is not None:
        write_json(options.json, report)
    return 0 if all(row.losses_finite for row in rows) else 1


def training_rows(options: BenchmarkOptions) -> Iterator[TrainingRow]:
    """Each cfg with each precision, size and batch size.

    Raises:
        UserError: a cfg or the data set cannot be used.
    """
    device = choose_device(options.device)
    for cfg, precision, size, batch in product(
        _yaml_files(options.weights),
        options.precision or (None,),
        options.img_size or (None,),
        options.batch_size or (None,),
    ):
        precisions = () if precision is None else (f"train.precision={precision}",)
        plan = make_plan(
            TrainOptions(
                cfg=cfg,
                data=options.data,
                img_size=size,
                batch_size=batch,
                workers=options.workers,
                overrides=(*TRAINING_OVERRIDES, *precisions, *options.overrides),
            )
        )
        yield measure_training(set_up(plan, device, Ranks(), print), options.rounds)


def _yaml_files(weights: tuple[str, ...]) -> list[Path]:
    paths = [Path(each) for each in weights or ("cfg/yolofpn-tiny.yaml",)]
    for path in paths:
        if path.suffix not in (".yaml", ".yml"):
            raise UserError(f"{path}: --train needs a model's YAML, such as --cfg cfg/yolofpn-tiny.yaml")
    return paths
