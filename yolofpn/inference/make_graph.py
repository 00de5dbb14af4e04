"""Makes a graph in a process of its own: ``python -m yolofpn.inference.make_graph JOB``.

PyTorch's tracer exchanges methods of all modules of a process while it works, so that nothing else may run a network in
it meanwhile. ``JOB`` is a folder with the weights and what is to be made of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from yolofpn.config import Metadata
from yolofpn.errors import UserError
from yolofpn.runtimes.backends import BackendBuilder
from yolofpn.weights import load_weights, save_weights

_WEIGHTS, _JOB = "weights.safetensors", "job.json"


def write_job(folder: Path, builder: BackendBuilder, name: str) -> list[str]:
    """Write down what is to be made, and give the command that makes it.

    Args:
        folder: receives it.
        builder: of the graph.
        name: of the backend that it is for.

    Raises:
        UserError: the folder cannot be written.
    """
    assert isinstance(builder.detector, torch.nn.Module)
    save_weights(folder / _WEIGHTS, builder.detector.state_dict(), builder.metadata)
    job = {"name": name, "identity": builder.fingerprint, "sizes": builder.sizes}
    (folder / _JOB).write_text(json.dumps(job))
    return [sys.executable, "-m", __name__, str(folder)]


def environment() -> Mapping[str, str]:
    """Return the environment of a subprocess with the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # noqa: PTH109


def main(argv: Sequence[str]) -> int:
    """Make the graph, and compare it with PyTorch; both stay in the cache."""
    folder = Path(argv[0])
    job = json.loads((folder / _JOB).read_text())
    try:
        loaded = load_weights(folder / _WEIGHTS)
        metadata: Metadata = loaded.metadata
        sizes = [(int(height), int(width)) for height, width in job["sizes"]]
        builder = BackendBuilder(loaded.detector, metadata, sizes, torch.device("cpu"), identity=str(job["identity"]))
        builder.make_graphs(job["name"])
        builder.verdict(job["name"], "fp32")
    except UserError as error:
        print(str(error).splitlines()[0])
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
