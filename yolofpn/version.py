"""The version of yolofpn: from the git tag in a clone, else from the installed package."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

FALLBACK = "0.1.0"  # of an archive without git that is not installed; the same as in pyproject.toml
_ROOT = Path(__file__).resolve().parents[1]
_DESCRIBE = ("git", "describe", "--tags", "--long", "--abbrev=9", "--match", "v[0-9]*")
_DESCRIPTION = re.compile(r"v(?P<base>[\d.]*?)(?P<last>\d+)-(?P<commits>\d+)-(?P<node>g[0-9a-f]+)")


def read_version(root: Path = _ROOT) -> str:
    """The version as setuptools-scm names it, such as ``0.1.0`` or, two commits later, ``0.1.1.dev2+g0a1b2c3d4``.

    A clone is asked each time, so an editable install needs no reinstallation after a commit or a new tag.
    """
    if (root / ".git").exists() and (root / "pyproject.toml").is_file():
        try:
            described = subprocess.run(_DESCRIBE, cwd=root, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            described = None
        match = _DESCRIPTION.fullmatch(described.stdout.strip()) if described else None
        if match is not None and match["commits"] == "0":
            return f"{match['base']}{match['last']}"
        if match is not None:
            return f"{match['base']}{int(match['last']) + 1}.dev{match['commits']}+{match['node']}"
    try:
        return installed_version("yolofpn")
    except PackageNotFoundError:
        return FALLBACK


__version__ = read_version()
