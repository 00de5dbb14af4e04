"""``yolofpn classify``: the most likely ImageNet classes of a picture, by a Darknet classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.cli.arguments import Parser, image_size, positive_int, run_door

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.structures import Image


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and classify; the exit code."""
    parser = Parser(prog="yolofpn classify", description="Name what an ImageNet classifier sees in a picture.")
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE")
    add("--weights", type=Path, required=True, help="darknet53.weights, darknet19.weights, or any with --darknet-cfg")
    add("--darknet-cfg", type=Path, metavar="FILE", help="the cfg of a classifier other than these two")
    add("--names", type=Path, metavar="FILE", help="class names, one per line; default: their numbers")
    add("--img-size", type=image_size, metavar="N", default=(256, 256), help="side of the centre crop")
    add("--top", type=positive_int, default=5, help="how many classes are printed")
    arguments = parser.parse_args(argv)

    def door() -> int:
        import torch

        from yolofpn.data.images import read_image
        from yolofpn.data.names import read_names

        classify = _load(arguments.weights, arguments.darknet_cfg)
        names = read_names(arguments.names) if arguments.names else None
        for picture in arguments.pictures:
            crop = centre_crop(read_image(picture), arguments.img_size[0])
            images = torch.from_numpy(crop[:, :, ::-1].copy()).permute(2, 0, 1)[None]
            with torch.inference_mode():
                scores, labels = classify(images)[0].topk(arguments.top)
            print(f"{picture}:")
            for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
                print(f"  {score:7.2%}  {names[label] if names else label}")
        return 0

    return run_door(door)


def centre_crop(image: Image, side: int) -> Image:
    """The shorter side resized to ``side``, and of that the square in the middle, as Darknet validates classifiers."""
    from yolofpn.ops.resize import resize_image

    resized, _ = resize_image(image, (side, 2**16), "shortest-edge")
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    return resized[top : top + side, left : left + side]


def _load(weights: Path, cfg: Path | None) -> Callable[[Tensor], Tensor]:
    from yolofpn.darknet.cfg import read_cfg
    from yolofpn.darknet.native import load_classifier
    from yolofpn.darknet.network import load_darknet_network
    from yolofpn.darknet.weights import open_weights
    from yolofpn.models.darknet import Darknet19, DarknetClassifier, darknet53

    if cfg is not None:
        return load_darknet_network(read_cfg(cfg), weights)[0].class_probabilities
    # Darknet-19's file is half the size of Darknet-53's; a file that is neither is refused with both sizes.
    is_19 = open_weights(weights).size < 100_000_000
    backbone = Darknet19(norm_eps=1e-6) if is_19 else darknet53(norm_eps=1e-6)
    model = DarknetClassifier(backbone)
    load_classifier(model, weights)
    return model.eval()


if __name__ == "__main__":
    raise SystemExit(main())
