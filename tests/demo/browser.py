"""A real browser whose webcam is a clip."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import Browser, sync_playwright

from yolofpn.structures import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",  # which root may not use
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have little
)
START = 180_000  # milliseconds that a busy machine may take


def find_browser() -> str:
    """The path of Chromium; the test is skipped where there is none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium (Debian's package)")
    return path


@contextmanager
def open_browser(webcam: Path) -> Iterator[Browser]:
    """Chromium without a window; the file ``webcam`` is what its webcam shows, again and again."""
    flags = [
        *QUIET,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={webcam}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=flags, timeout=START)
        yield browser
        browser.close()


def write_webcam(path: Path, images: Sequence[Image]) -> Path:
    """What Chromium takes for a webcam: JPEG images one behind the other."""
    path.write_bytes(b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in images))
    return path
