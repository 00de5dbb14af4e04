"""Write a detector as one file that other programs run: ``python export.py --help``."""

from yolofpn.cli.export import main

if __name__ == "__main__":
    raise SystemExit(main())
