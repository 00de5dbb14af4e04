"""Detection in the browser, from this computer: ``python demo.py --help``."""

from yolofpn.cli.demo import main

if __name__ == "__main__":
    raise SystemExit(main())
