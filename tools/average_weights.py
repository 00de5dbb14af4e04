"""The weighted mean of two states of one network: a fine-tuned one and the one that it began with.

Between them lies a network that keeps what the first knew and has most of what the second learnt (WiSE-FT,
arXiv 2109.01903). Written in float16, with the metadata of the second.

    python tools/average_weights.py BEFORE AFTER OUT.safetensors --share 0.6 --bits 8

With --bits 8 large kernels are rounded so that each output channel holds whole multiples, up to 127, of one number: an
ONNX file then needs a byte for each. The numbers have 4 significant bits, so that float16 holds the products exactly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from yolofpn.errors import UserError
from yolofpn.weights import load_weights, save_weights

LARGE = 50_000  # values of a kernel; smaller ones are not worth rounding
SHARES = (0.7, 0.8, 0.9, 1.0)  # of a channel's largest value that 127 may stand for


def round_channels(kernel: Tensor) -> Tensor:
    """Round a kernel [C, ...] so that each channel has the least squared error; the largest values may be clipped."""
    rows = kernel.flatten(1)
    best, least = rows, torch.full((len(rows),), torch.inf)
    for share in SHARES:
        mantissa, exponent = torch.frexp(rows.abs().amax(dim=1) * share / 127)
        step = torch.ldexp((mantissa * 16).ceil() / 16, exponent)[:, None]
        rounded = (rows / step).round().clamp(-127, 127).nan_to_num() * step
        error = (rounded - rows).square().sum(dim=1)
        best = torch.where((error < least)[:, None], rounded, best)
        least = torch.minimum(error, least)
    return best.view_as(kernel)


def main() -> None:
    """Write the mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", help="weights, run folder or name")
    parser.add_argument("after", help="weights or run folder of the same network")
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of AFTER, in [0, 1]")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16, help="of large kernels")
    parser.add_argument("--card", type=Path, help="a model card in Markdown to put into the file")
    arguments = parser.parse_args()
    before, after = load_weights(arguments.before), load_weights(arguments.after)
    old, new = before.detector.state_dict(), after.detector.state_dict()
    if {name: tensor.shape for name, tensor in old.items()} != {name: tensor.shape for name, tensor in new.items()}:
        raise UserError(f"{arguments.before} and {arguments.after} are not of the same network")
    mean = {name: torch.lerp(old[name], new[name], arguments.share) for name in old if old[name].is_floating_point()}
    if arguments.bits == 8:
        large = {name: tensor for name, tensor in mean.items() if tensor.ndim == 4 and tensor.numel() > LARGE}
        mean |= {name: round_channels(tensor) for name, tensor in large.items()}
    metadata = after.metadata
    if arguments.card:
        metadata = metadata.model_copy(update={"card": arguments.card.read_text(encoding="utf-8")})
    save_weights(arguments.out, mean, metadata, torch.float16)


if __name__ == "__main__":
    main()
