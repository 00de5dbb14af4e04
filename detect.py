"""Detect objects in images, folders, videos, cameras and streams: ``python detect.py --help``."""

from yolofpn.cli.detect import main

if __name__ == "__main__":
    raise SystemExit(main())
