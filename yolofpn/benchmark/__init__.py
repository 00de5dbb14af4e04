"""Speed measurements: see ``python benchmark.py --help``."""
