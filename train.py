"""Train a detector: ``python train.py --help``."""

from yolofpn.cli.train import main

if __name__ == "__main__":
    raise SystemExit(main())
