"""``python -m yolofpn tune``: every backend and precision, on this machine and the user's images; the best is kept."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from yolofpn import runtimes
from yolofpn.devices import is_fast_at_bf16
from yolofpn.errors import NaNOutputError, UserError
from yolofpn.evaluation.evaluator import EVALUATION_LIMITS, relabelled
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.extras import is_installed
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.threads import sharing_processors
from yolofpn.inference.torch_network import tuned_key, used_libraries
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.backends import BackendBuilder
from yolofpn.runtimes.parity import TOLERANCES, match_detections
from yolofpn.runtimes.second_stage import has_second_stage, prepare_postprocess
from yolofpn.runtimes.timing import seconds_per_pass
from yolofpn.runtimes.tuned import Tuned, write_tuned
from yolofpn.structures import Detections, Image
from yolofpn.text import bar_stream
from yolofpn.tuning.rounds import interleave
from yolofpn.tuning.tune_images import TuneImages, open_images

ENOUGH_AGREEMENT = 0.97  # where there are no labels to measure AP with
SCORE_THRESH = 0.001
REFERENCE = ("torch", "fp32")


@dataclass(frozen=True)
class TuneOptions:
    """Options of ``yolofpn tune``, see its --help."""

    weights: str = "auto"
    data: str | None = None
    darknet_cfg: Path | None = None
    names: Path | None = None
    img_size: tuple[int, int] | None = None
    device: str = "auto"
    images: int = 64
    rounds: int = 5
    max_loss: float = 0.005
    dry_run: bool = False
    forget: bool = False


@dataclass(frozen=True)
class TunedRow:
    """The measurements of a backend and precision.

    Attributes:
        milliseconds: per image, the median.
        agreement: share of detections that are matched among those of PyTorch in fp32, and the other way round.
        average_precision: AP; None without labels.
    """

    backend: str
    precision: str
    milliseconds: float
    agreement: float
    average_precision: float | None

    def __str__(self) -> str:
        ap = "     -" if self.average_precision is None else f"{self.average_precision:6.3f}"
        return f"{self.backend:9} {self.precision:9} {self.milliseconds:8.1f} {ap} {self.agreement:10.1%}"

    def described(self) -> str:
        """Return a one-line summary, which later runs print."""
        quality = f"{self.agreement:.1%} agreement"
        if self.average_precision is not None:
            quality = f"AP {self.average_precision:.3f}"
        return f"{self.milliseconds:.1f} ms, {quality}"


HEAD = f"{'backend':9} {'precision':9} {'ms':>8} {'AP':>6} {'agreement':>10}"


def tune(options: TuneOptions) -> int:
    """Measure, print the table, keep the choice; the exit code.

    Raises:
        UserError: if the weights are a graph, or there are no images to measure with.
    """
    loaded = load_for_inference(options.weights, darknet_cfg=options.darknet_cfg, names=options.names)
    print("\n".join(loaded.notes))
    if loaded.detector.is_graph:
        raise UserError(f"{options.weights}: is a graph, whose precision is fixed: tune the weights it was made from")
    base = Predictor(
        loaded.detector,
        loaded.metadata,
        img_size=options.img_size,
        score_thresh=SCORE_THRESH,
        nms_thresh=EVALUATION_LIMITS.nms_thresh,
        detections_per_img=EVALUATION_LIMITS.detections_per_img,
        device=options.device,
        backend="torch",
        precision="fp32",
    )
    throughput = base.device.type == "cpu" and not has_second_stage(base.detector)
    builder = BackendBuilder(base.detector, base.metadata, base.sizes, torch.device(str(base.device)), throughput)
    if options.forget:
        print(f"forgotten: {write_tuned(tuned_key(builder), None)}")
        return 0
    images = open_images(options.data, base.metadata, options.images)
    print("\n".join(images.notes))
    rows = measure(base, builder, images, options.rounds)
    print("\n".join([HEAD, *map(str, rows)]))
    chosen = choose(rows, options.max_loss)
    height, width = base.img_size
    print(f"chosen: {chosen.backend} {chosen.precision} ({chosen.described()}) for {height}x{width} on {builder.place}")
    if not options.dry_run:
        keep(builder, chosen)
    return 0


def keep(builder: BackendBuilder, chosen: TunedRow) -> None:
    """Let every run on this machine that asks for nothing else take ``chosen``."""
    graphs = tuple(builder.graph_keys(chosen.backend, chosen.precision))
    choice = Tuned(
        backend=chosen.backend,
        precision=chosen.precision,  # type: ignore[arg-type]
        libraries=used_libraries(),
        graphs=graphs,
        report=chosen.described(),
    )
    print(f"kept: {write_tuned(tuned_key(builder), choice)}; --backend and --precision override it, --forget undoes it")


def choose(rows: Sequence[TunedRow], max_loss: float) -> TunedRow:
    """The fastest row whose AP is no more than ``max_loss`` below PyTorch's; without labels, that agrees enough."""
    reference = next(row for row in rows if (row.backend, row.precision) == REFERENCE)

    def is_good(row: TunedRow) -> bool:
        if row is reference:
            return True
        if reference.average_precision is None or row.average_precision is None:
            return row.agreement >= ENOUGH_AGREEMENT
        return row.average_precision >= reference.average_precision - max_loss

    return min(filter(is_good, rows), key=lambda row: row.milliseconds)


def candidates(builder: BackendBuilder, *, sizes_vary: bool, can_calibrate: bool) -> list[tuple[str, str]]:
    """Return the combinations to measure on this machine, the reference first."""
    found = [REFERENCE]
    if is_fast_at_bf16(builder.device):
        found.append(("torch", "bf16"))
    if builder.device.type == "cuda":
        found.append(("torch", "fp16"))
    if builder.device.type != "cpu" or sizes_vary:
        return found
    for runtime in runtimes.RUNTIMES:
        if is_installed(runtime.module):
            found += [(runtime.key, name) for name in runtime.fast_precisions(can_calibrate=can_calibrate)]
    return found


def measure(base: Predictor, builder: BackendBuilder, images: TuneImages, rounds: int) -> list[TunedRow]:
    """Measure all candidates: first their detections, then their times, alternately."""
    wanted = candidates(builder, sizes_vary=base.resize == "shortest-edge", can_calibrate=images.can_calibrate)
    predictors: dict[tuple[str, str], Predictor] = {}
    quality: dict[tuple[str, str], tuple[float, float | None]] = {}
    reference: list[Detections] = []
    for number, (name, precision) in enumerate(wanted, start=1):
        label = f"{name} {precision}"
        print(f"{number} of {len(wanted)}: {label}", flush=True)
        try:
            predictor = _with_backend(base, _build(builder, name, precision, images, base))
            with sharing_processors(predictor):
                found = [predictor.predict([image])[0] for image in _progress(images.images, label)]
        except (UserError, NaNOutputError, RuntimeError) as error:
            if not reference:
                raise
            print(f"skipped: {label}: {next(iter(str(error).splitlines()), type(error).__name__)}", flush=True)
            continue
        reference = reference or found
        predictors[name, precision] = predictor
        quality[name, precision] = (_agreement(reference, found, precision), _average_precision(images, found))
    batch = images.as_network_sees(images.images[0], base.img_size)
    tasks = {key: partial(_time, predictor, batch) for key, predictor in predictors.items()}
    timings = interleave(tasks, rounds)
    return [TunedRow(*key, 1000 * timings[key].median, *quality[key]) for key in predictors]


def _build(builder: BackendBuilder, name: str, precision: str, images: TuneImages, base: Predictor) -> Backend:
    if precision == "int8":
        builder.make_int8(name, images.calibration)
    elif name != "torch":
        builder.make_graphs(name)
    return base.backend if (name, precision) == REFERENCE else builder.build(name, precision)


def _with_backend(base: Predictor, backend: Backend) -> Predictor:
    predictor = copy.copy(base)
    predictor.backend = backend
    predictor.postprocessor = prepare_postprocess(base.detector, backend.precision)
    return predictor


def _time(predictor: Predictor, batch: torch.Tensor) -> list[float]:
    with sharing_processors(predictor):
        return [seconds_per_pass(predictor.backend, batch, 2 * predictor.backend.slots)]


def _agreement(reference: Sequence[Detections], found: Sequence[Detections], precision: str) -> float:
    tolerance = replace(TOLERANCES["bf16"], score=TOLERANCES[precision].score)
    pairs = [pair for one, two in zip(reference, found, strict=True) for pair in ((one, two), (two, one))]
    matches = [match_detections(one, two, tolerance) for one, two in pairs]
    total = sum(each.total for each in matches)
    return sum(each.matched for each in matches) / total if total else 1.0


def _average_precision(images: TuneImages, found: Sequence[Detections]) -> float | None:
    if images.targets is None:
        return None
    metrics = DetectionMetrics(images.names)
    for detections, target in zip(found, images.targets, strict=True):
        metrics.add(relabelled(detections, images.mapping), target)
    return metrics.compute().values["AP"]


def _progress(images: Sequence[Image], label: str) -> Iterable[Image]:
    stream = bar_stream(sys.stderr)
    return tqdm(images, desc=label, unit="image", disable=not stream.isatty(), leave=False, file=stream)
