"""Any weights file, run folder or name -> a detector together with all that its weights know of themselves."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from yolofpn.config import InputConfig, Metadata
from yolofpn.config.metadata import rename_classes
from yolofpn.config.stored import dump_metadata, parse_metadata
from yolofpn.darknet.cfg import parse_cfg, read_cfg
from yolofpn.darknet.companions import choose_resize, find_cfg, find_names, resize_note
from yolofpn.darknet.download import NAMED_WEIGHTS, fetch_weights
from yolofpn.darknet.network import DarknetNetwork, load_darknet_network
from yolofpn.darknet.weights_file import NEW_HEADER, norm_eps_of, open_weights
from yolofpn.data.class_names import coco_category_ids, read_names
from yolofpn.errors import UserError
from yolofpn.files import RUN_WEIGHTS
from yolofpn.models.build import NativeDetector, build_limits, build_model
from yolofpn.reading import ParseError
from yolofpn.regular_files import open_regular_file, special_kind
from yolofpn.runtimes import runtime_of
from yolofpn.shipped import default_weights
from yolofpn.tensor_files import CodeError, read_archive, read_safetensors, write_safetensors
from yolofpn.text import command

_METADATA_KEY = "yolofpn"
_COUNTER = ".num_batches_tracked"  # batch norm's, which only its cumulative average would read


@dataclass(frozen=True)
class LoadedWeights:
    """A detector in evaluation mode on the CPU.

    Attributes:
        metadata: the metadata stored in the weights.
        notes: lines to print: which files were chosen, and why.
    """

    detector: NativeDetector | DarknetNetwork
    metadata: Metadata
    notes: list[str]


def load_weights(
    spec: str | Path, *, darknet_cfg: str | Path | None = None, names: str | Path | None = None
) -> LoadedWeights:
    """Read weights and build their detector.

    Args:
        spec: a safetensors file, a Darknet ``.weights`` file, a checkpoint or folder of a training run, a name of
            ``NAMED_WEIGHTS``, or 'auto' for the default weights.
        darknet_cfg: the cfg of a ``.weights`` file; by default it is searched for.
        names: a file of class names; by default those stored in the weights or in a file beside them.

    Raises:
        UserError: the file is missing, damaged or not a weights file, or cfg, names and weights do not match.
    """
    path, notes = _resolve(spec)
    if runtime_of(path):
        raise UserError(
            f"{path}: is a graph, which can only detect and be evaluated: give the weights it was made from"
        )
    kind = weights_kind(path)
    if kind == "darknet":
        return _load_darknet(path, notes, darknet_cfg, names)
    if darknet_cfg is not None:
        raise UserError(f"{path} contains its network: --darknet-cfg is for Darknet .weights files only")
    state, text = _read_safetensors(path) if kind == "safetensors" else _read_checkpoint(path)
    metadata = parse_metadata(text, path)
    if names is not None:
        metadata = rename_classes(metadata, read_names(names), names, path)
    with _SkipRandomNumbers():
        with torch.device("meta"):  # a network larger than its own file is refused before it takes memory
            check_state(build_detector(metadata, str(path)), state, str(path))
        detector = build_detector(metadata, str(path))
    detector.load_state_dict(_without_counters(state), strict=False)
    return LoadedWeights(detector.eval(), metadata, notes)


class _SkipRandomNumbers(TorchFunctionMode):
    """Leaves out the drawing of first weights, which those of the file replace: it takes most of the time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_detector(metadata: Metadata, origin: str) -> NativeDetector | DarknetNetwork:
    """The network that ``metadata`` describes, with fresh weights; ``origin`` names its file in errors.

    Raises:
        UserError: the two do not make a detector.
    """
    if metadata.darknet_cfg is not None:
        cfg = parse_cfg(metadata.darknet_cfg, origin)
        eps = norm_eps_of(metadata.header or NEW_HEADER)
        network = DarknetNetwork(cfg, limits=build_limits(metadata.postprocess), norm_eps=eps)
        _check_outputs(network, origin)
        if network.num_classes != len(metadata.names):
            raise UserError(f"{origin}: has {network.num_classes} classes, but {len(metadata.names)} names")
        return network
    assert metadata.model is not None  # Metadata holds exactly one of the two
    try:
        return build_model(metadata.model, len(metadata.names), metadata.input, metadata.postprocess)
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None


def check_state(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """See that ``state`` holds exactly the tensors that ``model`` needs.

    Raises:
        UserError: a tensor is missing, left over, or of another shape; the first one is named.
    """
    expected = _without_counters(model.state_dict())
    given = _without_counters(state)
    if missing := expected.keys() - given.keys():
        raise UserError(f"{origin}: lacks {len(missing)} of the network's tensors, first {min(missing)!r}")
    if unknown := given.keys() - expected.keys():
        raise UserError(f"{origin}: holds {len(unknown)} tensors that the network has not, first {min(unknown)!r}")
    for name, tensor in expected.items():
        if tensor.is_floating_point() and not given[name].is_floating_point():
            raise UserError(f"{origin}: {name!r} holds {given[name].dtype}, no floating-point numbers")
        if tensor.shape != given[name].shape:
            raise UserError(f"{origin}: {name!r} is {_shape(given[name])}, its network needs {_shape(tensor)}")


def save_weights(
    path: str | Path, state: Mapping[str, Tensor], metadata: Metadata, dtype: torch.dtype | None = None
) -> None:
    """Write a safetensors file that ``load_weights`` reads; a file of that name is replaced only by a complete one.

    Args:
        path: of the file.
        state: the state dict of the detector that ``metadata`` describes.
        metadata: kept as JSON in the file's header.
        dtype: type in which floating-point tensors are stored, such as torch.float16; default: their own.

    Raises:
        UserError: the file cannot be written, or a number is too large for ``dtype``.
    """
    path = Path(path)
    # Clones, because a safetensors file refuses tensors that share memory.
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous().clone()
        for name, tensor in _without_counters(state).items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all() and state[name].isfinite().all():
            raise UserError(f"{path}: {name!r} holds numbers too large for {tensor.dtype}: keep them as they are")
    try:
        write_safetensors(path, tensors, {_METADATA_KEY: dump_metadata(metadata)})
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be written ({_reason(error)}): check the folder and the room on its disk"
        ) from None


def _resolve(spec: str | Path) -> tuple[Path, list[str]]:
    """What was typed -> a file that exists, and what to say of it."""
    path = Path(spec)
    try:
        if path.is_file():
            return path, []
        if path.is_dir():
            return _weights_of_run(path), []
    except OSError as error:
        raise UserError(f"{spec}: cannot be read ({error.strerror})") from None
    if kind := special_kind(path):
        raise UserError(f"{path}: is {kind}, not a file: give a weights file or a run folder")
    if str(spec) == "auto":
        default = default_weights()
        return default, [f"weights: {default} (the default weights; sha256 verified)"]
    if str(spec) in NAMED_WEIGHTS:
        if NAMED_WEIGHTS[str(spec)].convolutions:
            raise UserError(
                f"{spec} is a backbone without a detector: it can only start a training ({command('train')} --weights)"
            )
        fetched = fetch_weights(NAMED_WEIGHTS[str(spec)])
        return fetched.path, [fetched.note]
    raise UserError(f"{spec}: no such weights file or run folder{_near(path)}")


def _weights_of_run(folder: Path) -> Path:
    path = folder / RUN_WEIGHTS
    if path.is_file():
        return path
    for checkpoint in ("best.pt", "last.pt"):
        if (folder / checkpoint).is_file():
            raise UserError(f"{folder} holds no {RUN_WEIGHTS} yet: give --weights {folder / checkpoint}")
    raise UserError(f"{folder}: is not a run folder (no {RUN_WEIGHTS}): give a weights file")


def _near(path: Path) -> str:
    """A hint at what may have been meant: a file of that folder or a name."""
    if path.stem in NAMED_WEIGHTS and path.suffix == ".weights":
        return f": --weights {path.stem} downloads it"
    known = {sibling.name: str(sibling) for sibling in path.parent.glob("*")} | {name: name for name in NAMED_WEIGHTS}
    near = difflib.get_close_matches(path.name, known, n=1)
    return f": did you mean {known[near[0]]}?" if near else f" (names that are downloaded: {', '.join(NAMED_WEIGHTS)})"


def weights_kind(path: Path) -> Literal["darknet", "safetensors", "pickle"]:
    """By content, since Darknet's files have all kinds of names (yolov3.weights, yolov3.backup, darknet53.conv.74)."""
    try:
        size = path.stat().st_size
        with open_regular_file(path) as file:
            head = file.read(16)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return "safetensors"
    if path.suffix == ".safetensors":
        raise UserError(f"{path}: damaged, or not a safetensors file: download or copy it again")
    if head[:2] == b"PK" or head[:1] == b"\x80":  # a zip archive, or a pickle of protocol 2 or newer
        return "pickle"
    return "darknet"


def _load_darknet(
    path: Path, notes: list[str], given_cfg: str | Path | None, given_names: str | Path | None
) -> LoadedWeights:
    file = open_weights(path)
    cfg_path, cfg_note = find_cfg(path, len(file.numbers), given_cfg)
    cfg = read_cfg(cfg_path)
    network, _ = load_darknet_network(cfg, file, complete_only=True)
    _check_outputs(network, str(path))
    names, names_note = find_names(path, cfg_path, network.num_classes, given_names)
    metadata = Metadata(
        darknet_cfg=cfg.text,
        input=InputConfig(size=(cfg.net.height, cfg.net.width), resize=choose_resize(cfg, file.header)),
        names=names,
        category_ids=coco_category_ids(names),
        header=file.header,
    )
    return LoadedWeights(network, metadata, [*notes, cfg_note, names_note, resize_note(cfg, file.header), *cfg.notes])


def _read_safetensors(path: Path, *, only_look: bool = False) -> tuple[dict[str, Tensor], str]:
    try:
        state, texts = read_safetensors(path, only_look=only_look)
    except ParseError as error:
        raise UserError(f"{path}: is damaged or cut short ({error}): fetch or copy it again") from None
    text = texts.get(_METADATA_KEY)
    if text is None:
        raise UserError(f"{path}: holds tensors but does not say of which network: only yolofpn's own files do")
    return state, text


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str]:
    """The averaged weights of a checkpoint that training wrote, and its metadata. Nothing is ever unpickled as code."""
    foreign = "is not a checkpoint of yolofpn\nother projects' .pt files are not read: use Darknet .weights, or train"
    try:
        checkpoint = read_archive(path)
    except CodeError:
        raise UserError(f"{path}: holds code that would run when read (or is damaged): it {foreign}") from None
    except (ParseError, OSError) as error:
        raise UserError(f"{path}: is damaged or cut short ({_reason(error)}): fetch or copy it again") from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("metadata"), str):
        raise UserError(f"{path}: {foreign}")
    state = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"{path}: {foreign}")
    return state, checkpoint["metadata"]


def read_metadata(path: Path) -> Metadata:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        UserError: it is damaged, or none of ours.
    """
    return parse_metadata(_read_safetensors(path, only_look=True)[1], path)


def _check_outputs(network: DarknetNetwork, origin: str) -> None:
    if network.is_classifier:
        raise UserError(f"{origin}: is a classifier, it finds no boxes: {command('classify')} takes it")


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTER)}


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
