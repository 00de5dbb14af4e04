"""Opens the candidates that the command line names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import nn

from benchmarking.candidates import OurCandidate
from yolofpn.bands import Bands
from yolofpn.config import InputConfig, Metadata, load_config
from yolofpn.darknet.cfg import read_cfg
from yolofpn.darknet.darknet_layers import Convolution
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import write_layers
from yolofpn.data.class_names import COCO_CATEGORY_IDS, COCO_NAMES
from yolofpn.errors import UserError
from yolofpn.inference.load_detector import LoadedDetector, load_for_inference
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import Workload
from yolofpn.models.build import build_model
from yolofpn.models.yolo import YOLO
from yolofpn.shipped import default_weights
from yolofpn.weights import weights_kind

CFG_SUFFIXES = (".yaml", ".yml", ".cfg")
NO_OBJECT = -10.0  # logit of the objectness of random weights


@dataclass(frozen=True)
class Combination:
    """The settings of one candidate, as on the command line, including 'auto'.

    Attributes:
        img_size: (height, width); None: what the weights say.
        workload: what a backend expects; see ``choose_backend``.
        compile: whether torch.compile writes the torch backend's kernels.
    """

    weights: str
    backend: str = "auto"
    precision: str = "auto"
    img_size: tuple[int, int] | None = None
    batch_size: int = 1
    workload: Workload = "many"
    compile: bool = False

    def __str__(self) -> str:
        size = [f"{self.img_size[0]}x{self.img_size[1]}"] if self.img_size else []
        words = [self.weights, self.backend, self.precision, *size, self.workload]
        return " ".join(words + (["compiled"] if self.compile else []))


def combinations(
    weights: Sequence[str],
    backends: Sequence[str],
    precisions: Sequence[str],
    img_sizes: Sequence[tuple[int, int]],
    batch_sizes: Sequence[int],
    workloads: Sequence[Workload] = (),
    *,
    compile: bool = False,
) -> Iterator[Combination]:
    """Yield all combinations; missing values come from the weights. With ``compile`` torch is also compiled."""
    sizes: Sequence[tuple[int, int] | None] = img_sizes or [None]
    axes = (weights or ["auto"], backends or ["auto"], precisions or ["auto"], sizes, batch_sizes or [1])
    wanted: Sequence[Workload] = workloads or ["many"]
    for values, workload in product(product(*axes), wanted):
        each = Combination(*values, workload)
        yield each
        if compile and each.backend == "torch":
            yield replace(each, compile=True)


def open_candidates(
    wanted: Iterable[Combination],
    device: str,
    folder: Path,
    leave_out: Callable[[str], None],
    *,
    own_images: bool = True,
) -> list[OurCandidate]:
    """Open all candidates that can run on this machine.

    Args:
        wanted: what to open.
        device: where networks run.
        folder: receives weights made up for a Darknet cfg.
        leave_out: called with a line for each one that cannot run.
        own_images: the images are the user's, so that they may have bands.

    Raises:
        UserError: if none can, for the reason of the first.
    """
    opened: list[OurCandidate] = []
    models: dict[str, Model] = {}
    first: UserError | None = None
    for each in wanted:
        try:
            if each.weights not in models:
                models[each.weights] = open_model(each.weights, folder)
            model = models[each.weights]
            _check_reading(model.loaded.metadata.input, opened, own_images=own_images)
            predictor = Predictor(
                model.loaded.detector,
                model.loaded.metadata,
                img_size=each.img_size,
                device=device,
                backend=each.backend,
                precision=each.precision,
                workload=each.workload,
                compile=each.compile,
            )
            predictor.settle()
        except UserError as error:
            first = first or error
            leave_out(f"skipped: {each}: {error}")
            continue
        path = path_of(each.weights)
        opened.append(
            OurCandidate(
                path.name,
                predictor,
                each.batch_size,
                darknet_file=model.darknet_file,
                workload=each.workload,
                is_random=path.suffix.lower() in CFG_SUFFIXES,
                compiled=each.compile,
            )
        )
    if not opened:
        raise first or UserError("nothing to measure")
    return opened


def _check_reading(input: InputConfig, opened: Sequence[OurCandidate], *, own_images: bool) -> None:
    """See that weights can be measured on the same images as the others.

    Raises:
        UserError: they take bands and the images have none, or the others do not take the same bands.
    """
    if not input.is_plain and not own_images:
        raise UserError("these weights take bands: give images of them with --source")
    readings = [input.reading, *(each.own_predictor.depth for each in opened[:1])]
    if any(isinstance(each, Bands) for each in readings) and readings[0] != readings[-1]:
        raise UserError("weights that take bands are measured in runs of their own: others read other images")


def path_of(weights: str) -> Path:
    """The file that the word of the command line means, or may mean.

    Raises:
        UserError: if the default weights are missing or damaged.
    """
    return default_weights() if weights == "auto" else Path(weights)


@dataclass(frozen=True)
class Model:
    """Weights, and the Darknet file that they were read from, if it was one."""

    loaded: LoadedDetector
    darknet_file: Path | None = None


def open_model(weights: str, folder: Path) -> Model:
    """Weights, or for a model's YAML or a Darknet cfg random ones, which are as fast as any.

    Raises:
        UserError: if there are no such weights, or the file describes no detector.
    """
    match Path(weights).suffix.lower():
        case ".yaml" | ".yml":
            return Model(random_weights(Path(weights)))
        case ".cfg":
            path = make_darknet_weights(Path(weights), folder)
        case _:
            path = path_of(weights)
    loaded = load_for_inference(path)
    is_darknet = isinstance(loaded.detector, DarknetNetwork) and path.is_file() and weights_kind(path) == "darknet"
    return Model(loaded, path if is_darknet else None)


def random_weights(cfg: Path) -> LoadedDetector:
    """A model's YAML with newly initialised weights for COCO's classes; those of one stage find nothing.

    Raises:
        UserError: if it describes no detector.
    """
    config = load_config(cfg)
    try:
        detector = build_model(config.model, len(COCO_NAMES), config.input, config.postprocess)
    except ValueError as error:
        raise UserError(f"{cfg}: {error}") from None
    if isinstance(detector, YOLO):
        for name, spec in detector.specs.items():
            find_nothing(detector.head.get_submodule(f"{name}.predict"), len(spec.anchors))
    metadata = Metadata(
        model=config.model,
        input=config.input,
        postprocess=config.postprocess,
        names=COCO_NAMES,
        category_ids=COCO_CATEGORY_IDS,
    )
    return LoadedDetector(detector.eval(), metadata, [])


def make_darknet_weights(cfg: Path, folder: Path) -> Path:
    """Write random weights for a Darknet cfg, with a copy of the cfg."""
    network = DarknetNetwork(read_cfg(cfg))
    layers = {planned.cfg.index: layer for planned, layer in zip(network.plan, network.layers, strict=True)}
    for planned in network.plan:
        spec = network.specs.get(str(planned.cfg.index))
        output = layers.get(planned.inputs[0]) if spec else None
        if spec and isinstance(output, Convolution):
            find_nothing(output.conv, len(spec.anchors))
    path = folder / f"{cfg.stem}.weights"
    write_layers(path, network.weight_layers())
    path.with_suffix(".cfg").write_text(cfg.read_text(errors="replace"))
    return path


def find_nothing(predict: nn.Module, num_anchors: int) -> None:
    """Let the objectness of a last convolution be next to 0 everywhere.

    Else thousands of boxes in each image would make everything a measurement of NMS.
    """
    assert isinstance(predict, nn.Conv2d) and predict.bias is not None
    with torch.no_grad():
        predict.weight.view(num_anchors, -1, *predict.weight.shape[1:])[:, 4] = 0
        predict.bias.view(num_anchors, -1)[:, 4] = NO_OBJECT
