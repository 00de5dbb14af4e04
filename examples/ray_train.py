"""Training on a Ray cluster: processes that die are started again elsewhere, and the run resumes from last.pt.

pip install 'yolofpn[train]' 'ray[train]==2.60.0'

    python examples/ray_train.py --workers 8 --gpus 1 --cfg yolofpn --data /shared/data.yaml --output /shared/runs/big

Data and output lie where all machines see them. RAY_ADDRESS names the cluster; without it this machine is one. The same
command resumes a run whose driver has died.
"""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer


def train_worker(options: dict[str, Any]) -> None:
    """One process of the run; Ray has told it its rank and where the others are."""
    from yolofpn import TrainOptions, train

    with suppress(OSError):  # another machine may have no such folder
        os.chdir(options["folder"])
    sys.argv = options["command"]  # which the run folder keeps
    words = tuple(options["overrides"])
    own = {name: value for name, value in options.items() if name not in ("folder", "command", "overrides")}
    train(TrainOptions(**own, overrides=words, auto_resume=True))


def main() -> int:
    """Parse the command line and train; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each process")
    parser.add_argument("--cpus", type=int, default=1, help="CPU cores of each process")
    parser.add_argument("--failures", type=int, default=3, help="times that the run is started again")
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = vars(parser.parse_args())
    workers, gpus, cpus, failures = (arguments.pop(name) for name in ("workers", "gpus", "cpus", "failures"))
    resources = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    ray.init(os.environ.get("RAY_ADDRESS", "local"))  # without an address Ray would take any cluster that it finds
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=arguments
        | {"device": "auto" if gpus else "cpu", "folder": str(Path.cwd()), "command": sys.argv},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        # Tensors of GPUs go through NCCL, plans and checkpoints through Gloo.
        torch_config=TorchConfig("cpu:gloo,cuda:nccl" if gpus else "gloo"),
        # What Ray itself writes; the checkpoints are in the run folder.
        run_config=RunConfig(
            name="ray",
            storage_path=str(Path(arguments["output"]).absolute()),
            failure_config=FailureConfig(max_failures=failures),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
