"""Speed measurements: see ``python benchmark.py --help``. Not part of the installed package."""
