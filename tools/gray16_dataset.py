"""Copies a data set of colour images in Pascal VOC's layout as gray PNG images of one channel, of 8 or 16 bits.

The gray value is computed in floating point (ITU-R BT.601), so that 16 bits hold more than 256 levels:

    python tools/gray16_dataset.py BCCD BCCD16                       # gray levels over the whole 16-bit range
    python tools/gray16_dataset.py BCCD BCCD16 --low 20000 --high 21000   # and in a small part of it
    python tools/gray16_dataset.py BCCD BCCD8 --bits 8

Annotations and lists are copied as they are, but for the suffix of the images' names.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

BT601 = np.array([0.299, 0.587, 0.114])


def main() -> None:
    """Parse the arguments and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with JPEGImages, Annotations and ImageSets")
    parser.add_argument("output", type=Path, help="new folder")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16)
    parser.add_argument("--low", type=float, default=0, help="value of black (default: 0)")
    parser.add_argument("--high", type=float, help="value of white (default: the largest of the bits)")
    args = parser.parse_args()
    high = 2**args.bits - 1 if args.high is None else args.high
    (args.output / "JPEGImages").mkdir(parents=True)
    for path in sorted((args.source / "JPEGImages").iterdir()):
        with Image.open(path) as image:
            gray = np.asarray(image.convert("RGB"), dtype=np.float64) @ BT601
        values = np.rint(args.low + gray / 255 * (high - args.low))
        pixels = values.astype(np.uint8 if args.bits == 8 else np.uint16)
        Image.fromarray(pixels).save(args.output / "JPEGImages" / f"{path.stem}.png")
    shutil.copytree(args.source / "ImageSets", args.output / "ImageSets")
    (args.output / "Annotations").mkdir()
    for path in sorted((args.source / "Annotations").glob("*.xml")):
        text = path.read_text(encoding="utf-8").replace(".jpg", ".png")
        (args.output / "Annotations" / path.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
