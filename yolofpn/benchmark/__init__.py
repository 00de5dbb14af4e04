"""How fast everything is on the machine at hand, measured side by side: ``python benchmark.py --help``."""
