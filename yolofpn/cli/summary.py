"""``yolofpn summary``: print the layer table of a model, and the model card of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.cli.arguments import Parser, image_size, positive_int, run_command
from yolofpn.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.models.build import NativeDetector
    from yolofpn.models.layer_summary import LayerRow


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; return the exit code."""
    parser = Parser(
        prog="yolofpn summary", description="Print the layer table of a model, and the model card of weights."
    )
    parser.add_argument("model", metavar="FILE", help="model config, Darknet .cfg, or weights")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="overrides of the config")
    parser.add_argument("--img-size", type=image_size, metavar="N|HxW", help="network input size; default: the model's")
    parser.add_argument(
        "--num-classes", type=positive_int, metavar="N", default=80, help="number of classes; for a config only"
    )
    arguments = parser.parse_args(argv)

    def run() -> int:
        from yolofpn.darknet.network import DarknetNetwork
        from yolofpn.detector import size_fits
        from yolofpn.models.layer_summary import format_rows, layer_rows

        network, size, card = _load(arguments.model, arguments.overrides, arguments.num_classes)
        network.to("meta")  # the table needs shapes only, so no memory is used at any image size
        divisor = network.size_divisor
        fitting = size if size_fits(network, size) else tuple(side + -side % divisor for side in size)  # may be bounds
        height, width = arguments.img_size or fitting
        if not size_fits(network, (height, width)):
            raise UserError(f"image size {height}x{width} is not a multiple of {divisor}, the model's stride")
        forward: Callable[[Tensor], object] = network.dense
        if isinstance(network, DarknetNetwork) and network.is_classifier:
            forward = network.class_probabilities
        regions = _region_rows(network)
        print(format_rows([*layer_rows(network, forward, (height, width)), *regions]))
        if regions:
            gflop = 1000 * sum(row.gflop for row in regions)
            print(f"head.box is counted for one region; it takes {gflop:.3f} GFLOP for 1,000 regions")
        if card:
            print(f"\n{card.rstrip()}")
        return 0

    return run_command(run)


def _region_rows(network: NativeDetector | DarknetNetwork) -> list[LayerRow]:
    """Return the layer rows of the second stage for one region; empty if there is no second stage."""
    import torch

    from yolofpn.models.layer_summary import layer_rows

    stage = network.second_stage
    if stage is None:
        return []
    region = torch.zeros(1, *stage.input_size)
    return layer_rows(network, lambda images: stage.head(region.to(images.device)), stage.input_size[1:])


def _load(
    model: str, overrides: Sequence[str], num_classes: int
) -> tuple[NativeDetector | DarknetNetwork, tuple[int, int], str]:
    """Return the network, the (height, width) of its input, and the model card stored in its weights, else ''."""
    import torch

    from yolofpn.config import load_config
    from yolofpn.darknet.cfg import read_cfg
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.models.build import build_model
    from yolofpn.weights import load_weights

    suffix = Path(model).suffix.lower()
    if overrides and suffix not in (".yaml", ".yml"):
        raise UserError(f"{overrides[0]}: overrides apply to a .yaml config only, not to {model}")
    with torch.device("meta"):  # shapes only
        if suffix in (".yaml", ".yml"):
            config = load_config(model, overrides)
            return build_model(config.model, num_classes, config.input, config.postprocess), config.input.size, ""
        if suffix == ".cfg":
            cfg = read_cfg(model)
            return DarknetNetwork(cfg), (cfg.net.height, cfg.net.width), "\n".join(cfg.notes)
    loaded = load_weights(model)
    return loaded.detector, loaded.metadata.input.size, loaded.metadata.card


if __name__ == "__main__":
    raise SystemExit(main())
