"""What is detected on when no source is given."""

from __future__ import annotations

import os
from pathlib import Path

from yolofpn.errors import UserError

_PROJECT = Path(__file__).resolve().parents[2]


def default_sources() -> tuple[str, ...]:
    """Pictures and a video to try a detector on: those of the test data, where it lies beside the project.

    Raises:
        UserError: it does not.
    """
    data = _test_data()
    samples = (data / "pictures", data / "videos" / "library1.mp4")
    found = tuple(str(path) for path in samples if path.exists())
    if not found:
        raise UserError("nothing to detect on: name a picture, folder or video, such as\n  python detect.py street.jpg")
    return found


def default_pictures() -> list[Path]:
    """The pictures among the default sources; none where these do not lie beside the project."""
    return sorted((_test_data() / "pictures").glob("*.jpg"))


def _test_data() -> Path:
    return Path(os.environ.get("YOLOFPN_TEST_DATA") or _PROJECT.parent / "shared" / "data")
