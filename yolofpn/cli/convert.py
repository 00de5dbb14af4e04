"""``yolofpn convert``: Darknet weights to safetensors and back, and torchvision's Faster R-CNN to safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.cli.arguments import Parser, run_command
from yolofpn.errors import UserError
from yolofpn.text import command

if TYPE_CHECKING:
    from yolofpn.weights import LoadedWeights

_MAX_CARD_BYTES = 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert; return the exit code."""
    parser = Parser(
        prog="yolofpn convert",
        description="Convert Darknet weights to safetensors and back, and torchvision's Faster R-CNN to safetensors.",
    )
    add = parser.add_argument
    add("weights", metavar="FILE|RUN_DIR|NAME", help="weights to convert")
    add("output", type=Path, metavar="OUT", help=".safetensors or .weights file")
    add("--darknet-cfg", type=Path, metavar="FILE", help="cfg of Darknet weights; default: found automatically")
    add("--names", type=Path, metavar="FILE", help="class names: .names, classes.txt, data.yaml or Darknet .data")
    add(
        "--cfg",
        metavar="FILE",
        help="native model to load the weights into, such as cfg/yolofpn.yaml, so that it can be trained",
    )
    add("--half", action="store_true", help="store the parameters as float16; inference still uses float32")
    add("--card", type=Path, metavar="FILE", help="model card: text file to store in the weights")
    add("overrides", nargs="*", metavar="section.key=value", help="overrides of --cfg, such as model.norm_eps=0")
    arguments = parser.parse_args(argv)

    def run() -> int:
        from yolofpn.weights import load_weights

        if arguments.output.suffix not in (".safetensors", ".weights"):
            raise UserError(f"{arguments.output}: the output file must end in .safetensors or .weights")
        if (arguments.half or arguments.card) and arguments.output.suffix != ".safetensors":
            raise UserError(f"{arguments.output}: Darknet's format takes neither --half nor --card: use .safetensors")
        if arguments.overrides and arguments.cfg is None:
            raise UserError(f"{arguments.overrides[0]}: overrides need --cfg")
        loaded = from_torchvision(arguments.weights, arguments.cfg, arguments.overrides, arguments.names)
        if loaded is None:
            loaded = load_weights(arguments.weights, darknet_cfg=arguments.darknet_cfg, names=arguments.names)
            for note in loaded.notes:
                print(note)
            if arguments.cfg is not None:
                loaded = as_native(loaded, arguments.cfg, arguments.overrides)
        if arguments.card is not None:
            loaded = replace(loaded, metadata=loaded.metadata.model_copy(update={"card": read_card(arguments.card)}))
        write(loaded, arguments.output, half=arguments.half)
        print(f"written: {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
        return 0

    return run_command(run)


def from_torchvision(
    weights: str, cfg: str | None, overrides: Sequence[str], names: Path | None
) -> LoadedWeights | None:
    """Load a torchvision state dict into the native model that ``cfg`` describes.

    Returns:
        The loaded model, or None if ``weights`` is not a torchvision detector.

    Raises:
        UserError: if no cfg is given, or it describes another network.
    """
    from yolofpn.config import Metadata, load_config
    from yolofpn.data.class_names import read_names
    from yolofpn.tensor_files import read_tensors
    from yolofpn.training.start_torchvision import is_torchvision_detector, torchvision_detector
    from yolofpn.weights import LoadedWeights, build_detector, check_state

    tensors = read_tensors(Path(weights)) if Path(weights).is_file() else None
    if tensors is None or not is_torchvision_detector(tensors):
        return None
    if cfg is None:
        raise UserError(f"{weights}: torchvision's files do not name their network: give its config with --cfg")
    config = load_config(cfg, overrides)
    found = torchvision_detector(tensors, config.model, weights, read_names(names) if names else None)
    metadata = Metadata(
        model=found.model,
        input=config.input,
        postprocess=config.postprocess,
        names=found.names,
        category_ids=found.category_ids,
    )
    detector = build_detector(metadata, cfg)
    check_state(detector, found.state, weights)
    detector.load_state_dict(found.state, strict=False)
    return LoadedWeights(detector.eval(), metadata, [])


def as_native(loaded: LoadedWeights, cfg: str, overrides: Sequence[str] = ()) -> LoadedWeights:
    """Copy the parameters of a network built from a Darknet cfg into the native model that ``cfg`` describes.

    Raises:
        UserError: if the two are not the same network.
    """
    from yolofpn.config import YOLOHeadConfig, load_config
    from yolofpn.darknet.native import copy_into_native, native_layers, require_darknet_counterpart
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.darknet.weights_file import NEW_HEADER, norm_eps_of
    from yolofpn.models.build import build_yolo
    from yolofpn.weights import LoadedWeights

    network, metadata = loaded.detector, loaded.metadata
    if not isinstance(network, DarknetNetwork):
        raise UserError("--cfg applies to Darknet weights only: these weights belong to a native model already")
    config = load_config(cfg, overrides)
    if not isinstance(config.model.head, YOLOHeadConfig):
        others = f"{command('train')} --weights takes what fits others"
        raise UserError(f"{cfg}: Darknet weights need a head of type yolo; {others}")
    eps = norm_eps_of(metadata.header or NEW_HEADER)
    # Where Darknet adds eps to the square root of the variance, the variances are adjusted instead.
    model_config = config.model.model_copy(update={"norm_eps": 0.0 if eps.outside_root else eps.value})
    model = build_yolo(model_config, network.num_classes, metadata.input, metadata.postprocess)
    require_darknet_counterpart(model)
    wanted, given = native_layers(model), network.weight_layers()
    if [layer.shape for layer in wanted] != [layer.shape for layer in network.stored_layers()]:
        raise UserError(f"{cfg}: its layers are not those of {network.cfg.origin}: convert without --cfg")
    specs = sorted(network.specs.values(), key=lambda spec: spec.stride)
    if list(model.specs.values()) != specs:
        raise UserError(
            f"{cfg}: its anchors, strides or NMS are not those of {network.cfg.origin}: change head.anchors"
        )
    copy_into_native(wanted, given)
    native = metadata.model_copy(update={"model": model_config, "darknet_cfg": None})
    return LoadedWeights(model.eval(), native, loaded.notes)


def read_card(path: Path) -> str:
    """Read the text of a model card.

    Raises:
        UserError: if the file cannot be read as UTF-8 text.
    """
    from yolofpn.reading import ParseError, read_bounded

    try:
        return read_bounded(path, _MAX_CARD_BYTES).decode("utf-8")
    except (OSError, ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}): --card takes a text file") from None


def write(loaded: LoadedWeights, output: Path, *, half: bool = False) -> None:
    """Write weights in the format of the output's suffix.

    Args:
        loaded: the weights.
        output: ``.safetensors`` or ``.weights``.
        half: store safetensors in float16.

    Raises:
        UserError: if the file cannot be written, a value is out of range, or the model has no Darknet counterpart.
    """
    import torch

    from yolofpn.darknet.native import layers_to_write, require_darknet_counterpart
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.darknet.weights_file import NEW_HEADER, StoredLayers, write_layers
    from yolofpn.models.yolo import YOLO
    from yolofpn.weights import save_weights

    detector = loaded.detector
    if output.suffix == ".safetensors":
        save_weights(output, detector.state_dict(), loaded.metadata, torch.float16 if half else None)
        return
    header = loaded.metadata.header or NEW_HEADER
    layers: StoredLayers
    if isinstance(detector, DarknetNetwork):
        layers = detector.stored_layers()
    elif not isinstance(detector, YOLO):
        raise UserError("Darknet has no two-stage detectors: this model cannot be written as .weights")
    else:
        require_darknet_counterpart(detector)
        layers = layers_to_write(detector, header)
    write_layers(output, layers, header)


if __name__ == "__main__":
    raise SystemExit(main())
