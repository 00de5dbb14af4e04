"""Measure how fast detection and training are on this machine: ``python benchmark.py --help``."""

from benchmarking.command import main

if __name__ == "__main__":
    raise SystemExit(main())
