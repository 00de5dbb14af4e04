"""The engine Ray Data: units flow from a listing task through a pool of actors, each with one predictor.

The listing runs in a task that makes units only as fast as they are taken, so neither it nor the driver ever holds all
of them. An actor that dies is started again, and its unit repeated, however often, as any number of machines may be
lost; ``deadly_images`` ends this. The part file is then written once more, under the same name. Weights are put into
the object store, which copies them to each machine once; the first actor of a machine writes them into its cache
folder, where all of them open the file.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from yolofpn.engines.cluster import ClusterOptions, Shares, machines_there, shares, told_while_waiting
from yolofpn.engines.deadly_images import ImageTrial, run_start
from yolofpn.engines.job import Job
from yolofpn.engines.listing import list_images
from yolofpn.engines.unit_detector import UnitDetector, UnitReport
from yolofpn.engines.units import DoneUnits, Unit, make_units, undone
from yolofpn.engines.weights_files import WeightsFiles
from yolofpn.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

UNITS_AHEAD = 2  # of an actor: the next one is there when it has finished one


def run_units(
    job: Job,
    weights: WeightsFiles,
    contents: list[bytes],
    done: DoneUnits,
    cluster: ClusterOptions,
    say: Callable[[str], None],
) -> Iterator[UnitReport]:
    """Yield the report of each unit that is not done yet, in the order in which they end.

    A client, which is not of the cluster itself (``ray://``), has the work done by an actor that ends with it: Ray Data
    would else look for the client's own processors.

    Args:
        job: the run.
        weights: the files of the weights.
        contents: of each file.
        done: what an earlier run has done.
        cluster: where it runs; ``connected`` is entered.
        say: prints a line.

    Raises:
        UserError: the cluster has no machine for a worker, or the engine gave up.
    """
    import ray

    share = shares(cluster, machines_there(), job.options.device)
    try:
        starts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Starts).remote()
        parts = job, weights, contents, done, share, starts
        with told_while_waiting(share.gpus, lambda: bool(ray.get(starts.any_worker.remote())), say):
            if (cluster.address or "").startswith("ray://"):
                driver = ray.remote(num_cpus=0)(_Driver).remote(*parts)
                while reports := ray.get(driver.take.remote()):
                    yield from reports
            else:
                yield from _run_units(*parts)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise UserError(_gave_up(error)) from None
    except ray.exceptions.RayError as error:
        raise UserError(_gave_up(error)) from None


def _gave_up(error: Exception) -> str:
    """The message for an error of the engine or in it, without its text, which may repeat addresses with secrets."""
    reason = type(getattr(error, "cause", None) or error).__name__
    return f"the engine gave up ({reason})\nwhat was done is kept: resume with --resume"


class _Driver:
    """Runs units within the cluster, for a client outside of it."""

    def __init__(
        self,
        job: Job,
        weights: WeightsFiles,
        contents: list[bytes],
        done: DoneUnits,
        share: Shares,
        starts: Any,  # noqa: ANN401 an actor
    ) -> None:
        self._reports = _run_units(job, weights, contents, done, share, starts)

    def take(self) -> list[UnitReport]:
        """The next report; none at the end."""
        return list(islice(self._reports, 1))


def _run_units(
    job: Job,
    weights: WeightsFiles,
    contents: list[bytes],
    done: DoneUnits,
    share: Shares,
    starts: Any,  # noqa: ANN401 an actor
) -> Iterator[UnitReport]:
    import ray

    stored = [ray.put(np.frombuffer(content, np.uint8)) for content in contents]
    listing = _Listing(job, dict(done.failed), ray.put(done.images))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [_without_statistics()]
    # A worker that waits for a moment would be ended, and another one have to load the weights.
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0
    context.target_max_block_size = 1  # each unit is a block of its own, which flows on at once
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    reports = ray.data.read_datasource(_datasource(listing), num_cpus=0, override_num_blocks=1).map_batches(
        _Actor,
        fn_constructor_kwargs={"job": job, "weights": weights, "stored": stored, "starts": starts},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=share.workers, initial_size=share.workers, max_tasks_in_flight_per_actor=UNITS_AHEAD
        ),
        num_cpus=1,
        num_gpus=share.gpus,
    )
    for table in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for text in table["report"].to_pylist():
            yield UnitReport(**json.loads(text))


def _without_statistics() -> type:
    """Drops what Ray Data keeps of each block until its end: 2.5 kB for each unit, gigabytes for a billion images."""
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class WithoutStatistics(ExecutionCallback):  # type: ignore[misc,unused-ignore]
        def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401
            for operator in executor._topology:
                for blocks in operator.get_stats().values():
                    blocks.clear()

    return WithoutStatistics


@dataclass(frozen=True)
class _Listing:
    """Makes the units, in a task of the engine.

    Attributes:
        images: the digests of ``DoneUnits.images`` in the object store.
    """

    job: Job
    failed: dict[str, tuple[int, ...]]
    images: Any

    def __call__(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        import ray

        self.job.enter_folder()
        done = DoneUnits(self.failed, ray.get(self.images))
        listed = list_images(self.job.sources, self.job.column, bands=self.job.bands)
        for unit in undone(make_units(listed, self.job.part_size), done):
            yield pa.table({"unit": [unit.to_json()]})


def _datasource(listing: _Listing) -> Any:  # noqa: ANN401 Ray is imported by functions only
    from ray.data import Datasource
    from ray.data.block import BlockMetadata
    from ray.data.datasource import ReadTask

    class Units(Datasource):  # type: ignore[misc,unused-ignore]
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
            return [ReadTask(listing, unknown)]

    return Units()


class _Starts:
    """Counts how often each unit was started and not ended, in a process of the engine."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._workers = 0

    def add_worker(self) -> None:
        """A worker has started."""
        self._workers += 1

    def any_worker(self) -> bool:
        """Whether any worker has started."""
        return self._workers > 0

    def begin(self, unit: str) -> int:
        """1 for the first start of a unit, 2 for the second, ..."""
        self._counts[unit] += 1
        return self._counts[unit]

    def end(self, unit: str) -> None:
        """It is done."""
        self._counts.pop(unit, None)


class _Actor:
    """Detects in units, in a process of the engine.

    An error that every unit would meet is reported, as Ray would start the actor again and again.
    """

    def __init__(self, job: Job, weights: WeightsFiles, stored: list[Any], starts: Any) -> None:  # noqa: ANN401
        import ray

        self._job, self._weights, self._starts = job, weights, starts
        starts.add_worker.remote()
        self._fatal = ""
        job.enter_folder()
        try:
            loaded = weights.open([ray.get(content) for content in stored])
            self._detector = UnitDetector(
                loaded, job.options, batch_size=job.batch_size, output=job.output, form=job.form
            )
        except (UserError, ValueError) as error:
            self._fatal = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa
        import ray

        unit = Unit.from_json(table["unit"][0].as_py())
        if self._fatal:
            report = UnitReport(unit.name, fatal=self._fatal)
        else:
            try:
                start = ray.get(self._starts.begin.remote(unit.name))
                report = run_start(self._detector, unit, start, ImageTrial(self._job, self._weights, unit))
                self._starts.end.remote(unit.name)
            except UserError as error:
                report = UnitReport(unit.name, fatal=str(error))
        return pa.table({"report": [json.dumps(report.as_dict())]})
