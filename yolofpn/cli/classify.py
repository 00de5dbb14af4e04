"""``yolofpn classify``: classify images with a Darknet or EfficientNet-Lite ImageNet classifier."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.cli.arguments import DONE, NOTHING_DONE, SOME_FAILED, Parser, positive_int, run_command
from yolofpn.errors import InputError, UserError
from yolofpn.text import command

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.structures import Image

# Sorted by WordNet id as in torchvision and timm, unlike Darknet's own order; from Darknet's lists (public domain).
IMAGENET_NAMES = Path(__file__).resolve().parents[1] / "darknet" / "imagenet.names"
DARKNET19_LARGEST = 100_000_000  # bytes: its file has 83 million, Darknet-53's has 167 million


@dataclass(frozen=True)
class Classifier:
    """An image classifier.

    Attributes:
        probabilities: the network, uint8 [B, 3, H, W] RGB -> [B, num_classes].
        num_classes: number of classes.
        side: default side of the square input in pixels.
        divisor: other input sides must be multiples of it; 0 if only ``side`` is possible.
        border: how much larger than the crop the shorter side is resized to, in pixels.
        names: class names; empty if unknown.
    """

    probabilities: Callable[[Tensor], Tensor]
    num_classes: int
    side: int = 256
    divisor: int = 32
    border: int = 0
    names: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and classify; return the exit code."""
    parser = Parser(prog="yolofpn classify", description="Classify images with an ImageNet classifier.")
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files")
    add(
        "--weights",
        type=Path,
        required=True,
        help="darknet53.weights, darknet19.weights, the weights of another Darknet classifier with its cfg, or "
        "efficientnet-lite0",
    )
    add("--darknet-cfg", type=Path, metavar="FILE", help="cfg of another Darknet classifier")
    add("--names", type=Path, metavar="FILE", help="class names, one per line; default: ImageNet's, or numbers")
    add("--img-size", type=positive_int, metavar="N", help="side of the centre crop; default: the network's")
    add("--top", type=positive_int, default=5, metavar="N", help="number of classes to print")
    arguments = parser.parse_args(argv)

    def run() -> int:
        classifier = load_classifier(arguments.weights, arguments.darknet_cfg)
        names = _read_names(arguments.names, classifier)
        side, top = arguments.img_size or classifier.side, min(arguments.top, classifier.num_classes)
        if side != classifier.side and (not classifier.divisor or side % classifier.divisor):
            allowed = f" or a multiple of {classifier.divisor}" if classifier.divisor else ""
            raise UserError(f"image size {side} does not fit this network: it takes {classifier.side}{allowed}")
        failures = 0
        for image in arguments.images:
            try:
                lines = describe(image, classifier, names, side, top)
            except InputError as error:
                failures += 1
                print(f"failed: {error}", file=sys.stderr)
            else:
                print("\n".join(lines))
        if failures == len(arguments.images):
            return NOTHING_DONE
        return SOME_FAILED if failures else DONE

    return run_command(run)


def load_classifier(weights: Path, cfg: Path | None) -> Classifier:
    """Load the network of ``cfg``, else of the cfg with the same stem as ``weights``, else Darknet-19 or Darknet-53.

    Raises:
        UserError: if a file cannot be read, or cfg and weights do not match.
    """
    from yolofpn.darknet.cfg import read_cfg
    from yolofpn.darknet.darknet_layers import FullyConnected
    from yolofpn.darknet.native import load_classifier as load_native
    from yolofpn.darknet.network import load_darknet_network
    from yolofpn.darknet.weights_file import open_weights
    from yolofpn.models.backbones.darknet import Darknet19, DarknetClassifier, darknet53
    from yolofpn.models.backbones.efficientnet_lite import LITE_NAMES, find_package_weights

    if str(weights) in LITE_NAMES and not weights.exists():
        weights = find_package_weights(str(weights))
    if weights.suffix == ".pth" and cfg is None:
        return _load_efficientnet_lite(weights)
    if cfg is None and weights.with_suffix(".cfg").is_file():
        cfg = weights.with_suffix(".cfg")
    if cfg is not None:
        network, layers = load_darknet_network(read_cfg(cfg), weights)
        if not network.is_classifier:
            raise UserError(f"{cfg}: is a detector, not a classifier: use {command('detect')}")
        if not layers.complete:
            raise UserError(f"{weights}: holds only the first {layers.loaded} of {layers.total} layers of {cfg}")
        fixed = any(isinstance(layer, FullyConnected) for layer in network.layers)
        divisor = 0 if fixed else network.size_divisor
        return Classifier(network.class_probabilities, network.num_classes, network.input_size[0], divisor)
    is_19 = open_weights(weights).size < DARKNET19_LARGEST
    model = DarknetClassifier(Darknet19() if is_19 else darknet53())
    load_native(model, weights)
    return Classifier(model.eval(), model.connected.out_features)


def _load_efficientnet_lite(path: Path) -> Classifier:
    from yolofpn.data.class_names import read_names
    from yolofpn.models.backbones.efficientnet_lite import (
        LITE_SIDES,
        EfficientNetLite,
        EfficientNetLiteClassifier,
        rename_lite,
        variant_of,
    )
    from yolofpn.tensor_files import read_tensors

    tensors = read_tensors(path)
    if tensors is None:
        raise UserError(f"{path}: is not a PyTorch file: give the weights of EfficientNet-Lite0, -1 or -2")
    variant = variant_of(tensors, str(path))
    model = EfficientNetLiteClassifier(EfficientNetLite(variant))
    model.load_state_dict(rename_lite(tensors, str(path)))
    model.eval()
    names = read_names(IMAGENET_NAMES)
    return Classifier(
        lambda images: model(images).softmax(dim=1), len(names), LITE_SIDES[variant], 1, border=32, names=names
    )


def describe(path: str, classifier: Classifier, names: Sequence[str], side: int, top: int) -> list[str]:
    """Classify an image file; return lines with its name and its ``top`` classes with their probabilities.

    Raises:
        InputError: if the image cannot be read.
        UserError: if the network's output is NaN.
    """
    import torch

    from yolofpn.data.images import read_image

    crop = centre_crop(read_image(path), side, classifier.border)
    images = torch.from_numpy(crop[:, :, ::-1].copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        probabilities = classifier.probabilities(images)[0]
    if probabilities.isnan().any():
        raise UserError("the network's output is NaN: the weights are damaged: download them again")
    best, labels = probabilities.topk(top)
    pairs = zip(best.tolist(), labels.tolist(), strict=True)
    return [f"{path}:", *(f"  {probability:7.2%}  {names[label]}" for probability, label in pairs)]


def centre_crop(image: Image, side: int, border: int = 0) -> Image:
    """Crop a square from the middle of the image and resize it to ``side`` pixels.

    The result equals resizing the shorter side to ``side + border`` and cropping ``side`` pixels. With ``border`` 0 the
    square is the largest possible one, as in Darknet's validation of classifiers.

    Args:
        image: [H, W, 3] uint8, BGR.
        side: side of the result in pixels.
        border: see above, in pixels.
    """
    from yolofpn.ops.resize import resize_image

    height, width = image.shape[:2]
    square = max(1, round(min(height, width) * side / (side + border)))
    top, left = (height - square) // 2, (width - square) // 2
    resized, _ = resize_image(image[top : top + square, left : left + square], (side, side), "stretch")
    return resized


def _read_names(path: Path | None, classifier: Classifier) -> Sequence[str]:
    from yolofpn.data.class_names import read_names

    num_classes = classifier.num_classes
    if path is None:
        return classifier.names or [str(label) for label in range(num_classes)]
    names = read_names(path)
    if len(names) != num_classes:
        raise UserError(f"{path}: holds {len(names)} names, the classifier has {num_classes} classes")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
