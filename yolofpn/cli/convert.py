"""``yolofpn convert``: Darknet weights to safetensors and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.cli.arguments import Parser, run_door
from yolofpn.errors import UserError

if TYPE_CHECKING:
    from yolofpn.weights import LoadedWeights


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert; the exit code."""
    parser = Parser(prog="yolofpn convert", description="Turn Darknet weights into safetensors and back.")
    add = parser.add_argument
    add("weights", metavar="FILE|RUN_DIR|NAME", help="what to convert")
    add("output", type=Path, metavar="OUT", help="a .safetensors or .weights file")
    add("--darknet-cfg", type=Path, metavar="FILE", help="the cfg of Darknet weights, if it is not found beside them")
    add("--names", type=Path, metavar="FILE", help="class names: .names, classes.txt, data.yaml or Darknet .data")
    add("--cfg", metavar="FILE", help="put the numbers into this native model (cfg/yolofpn.yaml), to train it further")
    arguments = parser.parse_args(argv)

    def door() -> int:
        from yolofpn.weights import load_weights

        if arguments.output.suffix not in (".safetensors", ".weights"):
            raise UserError(f"{arguments.output}: name the file .safetensors or .weights")
        loaded = load_weights(arguments.weights, darknet_cfg=arguments.darknet_cfg, names=arguments.names)
        for note in loaded.notes:
            print(note)
        if arguments.cfg is not None:
            loaded = as_native(loaded, arguments.cfg)
        write(loaded, arguments.output)
        print(f"written: {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
        return 0

    return run_door(door)


def as_native(loaded: LoadedWeights, cfg: str) -> LoadedWeights:
    """The numbers of a cfg-built network in the native model that ``cfg`` describes.

    Raises:
        UserError: the two are not the same network.
    """
    from yolofpn.config import YOLOHeadConfig, load_config
    from yolofpn.darknet.native import native_layers, require_darknet_counterpart
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.models.build import build_yolo
    from yolofpn.weights import LoadedWeights

    network, metadata = loaded.detector, loaded.metadata
    if not isinstance(network, DarknetNetwork):
        raise UserError("--cfg is for Darknet weights: these belong to a native model already")
    config = load_config(cfg)
    if not isinstance(config.model.head, YOLOHeadConfig):
        raise UserError(f"{cfg}: Darknet weights need a head of type yolo; train.py --weights takes what fits others")
    model_config = config.model.model_copy(update={"norm_eps": 1e-6})  # Darknet's, as OpenCV reads it
    model = build_yolo(model_config, network.num_classes, metadata.input, metadata.postprocess)
    require_darknet_counterpart(model)
    wanted, given = native_layers(model), network.weight_layers()
    if [layer.shape for layer in wanted] != [layer.shape for layer in given]:
        raise UserError(f"{cfg}: its layers are not those of {network.cfg.origin}: convert without --cfg")
    specs = sorted(network.specs.values(), key=lambda spec: spec.stride)
    if list(model.specs.values()) != specs:
        raise UserError(f"{cfg}: its anchors or strides are not those of {network.cfg.origin}: change head.anchors")
    for target, source in zip(wanted, given, strict=True):
        target.copy_from(source)
    native = metadata.model_copy(update={"model": model_config, "darknet_cfg": None})
    return LoadedWeights(model.eval(), native, loaded.notes)


def write(loaded: LoadedWeights, output: Path) -> None:
    """Write weights in the format that the file's suffix says.

    Raises:
        UserError: the file cannot be written, or the model has no Darknet counterpart.
    """
    from yolofpn.darknet.native import native_layers, require_darknet_counterpart
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.darknet.weights import NEW_HEADER, write_layers
    from yolofpn.models.faster_rcnn import FasterRCNN
    from yolofpn.weights import save_weights

    detector = loaded.detector
    if output.suffix == ".safetensors":
        save_weights(output, detector.state_dict(), loaded.metadata)
        return
    if isinstance(detector, DarknetNetwork):
        layers = detector.weight_layers()
    elif isinstance(detector, FasterRCNN):
        raise UserError("Darknet knows no two-stage detectors: this model has no counterpart there")
    else:
        require_darknet_counterpart(detector)
        layers = native_layers(detector)
    write_layers(output, layers, loaded.metadata.header or NEW_HEADER)


if __name__ == "__main__":
    raise SystemExit(main())
