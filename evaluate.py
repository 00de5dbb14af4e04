"""Measure a detector on a data set: ``python evaluate.py --help``."""

from yolofpn.cli.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
