"""The weighted mean of two states of one network: a fine-tuned one and the one that it began with.

Between them lies a network that keeps what the first knew and has most of what the second learnt (WiSE-FT,
arXiv 2109.01903). Written in float16, with the metadata of the second.

    python tools/average_weights.py BEFORE AFTER OUT.safetensors --share 0.6
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from yolofpn.errors import UserError
from yolofpn.weights import load_weights, save_weights


def main() -> None:
    """Write the mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", help="weights, run folder or name")
    parser.add_argument("after", help="weights or run folder of the same network")
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of AFTER, in [0, 1]")
    parser.add_argument("--card", type=Path, help="a model card in Markdown to put into the file")
    arguments = parser.parse_args()
    before, after = load_weights(arguments.before), load_weights(arguments.after)
    old, new = before.detector.state_dict(), after.detector.state_dict()
    if {name: tensor.shape for name, tensor in old.items()} != {name: tensor.shape for name, tensor in new.items()}:
        raise UserError(f"{arguments.before} and {arguments.after} are not of the same network")
    mean = {name: torch.lerp(old[name], new[name], arguments.share) for name in old if old[name].is_floating_point()}
    metadata = after.metadata
    if arguments.card:
        metadata = metadata.model_copy(update={"card": arguments.card.read_text(encoding="utf-8")})
    save_weights(arguments.out, mean, metadata, torch.float16)


if __name__ == "__main__":
    main()
