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
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from yolofpn.engines.deadly_images import ImageTrial, run_start
from yolofpn.engines.job import Job
from yolofpn.engines.listing import list_images
from yolofpn.engines.unit_detector import UnitDetector, UnitReport
from yolofpn.engines.units import DoneUnits, Unit, make_units, undone
from yolofpn.engines.weights_files import WeightsFiles
from yolofpn.errors import UserError
from yolofpn.hardware import available_cpus

if TYPE_CHECKING:
    import pyarrow as pa

OBJECT_STORE = 256 << 20  # bytes, beside the weights: units and reports are small
UNITS_AHEAD = 2  # of an actor: the next one is there when it has finished one


@dataclass(frozen=True)
class ClusterOptions:
    """Where the workers run.

    Attributes:
        address: of a cluster: 'auto', 'HOST:PORT' or 'ray://HOST:PORT'; None: this machine alone.
        workers: number of processes that detect; None: one per GPU, else one per CPU of the cluster.
        gpus_per_worker: part or number of GPUs that each has; None: 1 where there are any.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None


@contextmanager
def connected(options: ClusterOptions, weights_bytes: int) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine that ends with this context.

    Raises:
        UserError: no cluster of Ray's version answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # As a run without an engine; Ray's own choice, 15, starves the workers wherever something else runs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what concerns users is raised
    import ray

    settings: dict[str, Any] = {"address": options.address or "local"}
    if options.address is None:
        settings |= {
            "include_dashboard": False,
            "num_cpus": max(options.workers or 1, available_cpus()),
            "object_store_memory": OBJECT_STORE + 2 * weights_bytes,
        }
    try:
        ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = str(error).strip().partition("\n")[0]
        place = options.address or "this machine"
        raise UserError(f"--address {place}: no Ray cluster that can be used ({reason}); see `ray status`") from None
    try:
        yield
    finally:
        ray.shutdown()


def run_units(
    job: Job, weights: WeightsFiles, contents: list[bytes], done: DoneUnits, cluster: ClusterOptions
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

    Raises:
        UserError: the engine gave up.
    """
    import ray

    try:
        if (cluster.address or "").startswith("ray://"):
            driver = ray.remote(num_cpus=0)(_Driver).remote(job, weights, contents, done, cluster)
            while reports := ray.get(driver.take.remote()):
                yield from reports
        else:
            yield from _run_units(job, weights, contents, done, cluster)
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
        self, job: Job, weights: WeightsFiles, contents: list[bytes], done: DoneUnits, cluster: ClusterOptions
    ) -> None:
        self._reports = _run_units(job, weights, contents, done, cluster)

    def take(self) -> list[UnitReport]:
        """The next report; none at the end."""
        return list(islice(self._reports, 1))


def _run_units(
    job: Job, weights: WeightsFiles, contents: list[bytes], done: DoneUnits, cluster: ClusterOptions
) -> Iterator[UnitReport]:
    import ray

    gpus, workers = _shares(cluster, dict(ray.cluster_resources()), job.options.device)
    stored = [ray.put(np.frombuffer(content, np.uint8)) for content in contents]
    starts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Starts).remote()
    listing = _Listing(job, dict(done.failed), ray.put(done.images))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # each unit is a block of its own, which flows on at once
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    reports = ray.data.read_datasource(_datasource(listing), num_cpus=0, override_num_blocks=1).map_batches(
        _Actor,
        fn_constructor_kwargs={"job": job, "weights": weights, "stored": stored, "starts": starts},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=UNITS_AHEAD
        ),
        num_cpus=1,
        num_gpus=gpus,
    )
    for table in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for text in table["report"].to_pylist():
            yield UnitReport(**json.loads(text))


def _shares(cluster: ClusterOptions, resources: dict[str, float], device: str) -> tuple[float, int]:
    """GPUs of each worker, and the number of workers."""
    there = resources.get("GPU", 0.0)
    gpus = cluster.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if there and device in ("auto", "cuda") else 0.0
    if gpus > there:
        raise UserError(f"--gpus-per-worker {gpus:g}: the cluster has {there:g} GPUs")
    by_resources = there // gpus if gpus else resources.get("CPU", 1.0)
    return gpus, cluster.workers or max(1, int(by_resources))


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
