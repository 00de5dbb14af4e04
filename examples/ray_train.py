"""Training on a Ray cluster: processes that die are started again elsewhere, and the run resumes from last.pt.

pip install 'yolofpn[train]' 'ray[train]==2.60.0'

    python examples/ray_train.py --workers 8 --gpus 1 --cfg yolofpn --data /shared/data.yaml --output /shared/runs/big

Data and output lie where all machines see them. RAY_ADDRESS names the cluster; without it this machine is one.
"""

import argparse

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train_worker(options: dict[str, str]) -> None:
    """One process of the run; Ray has told it its rank and where the others are."""
    from yolofpn import TrainOptions, train

    words = options.pop("overrides")
    train(TrainOptions(**options, overrides=tuple(words), auto_resume=True))  # type: ignore[arg-type]


def main() -> None:
    """Parse the command line and train."""
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
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=arguments | {"device": "auto" if gpus else "cpu"},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=failures)),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
