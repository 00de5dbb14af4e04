"""The version: of a tag, of commits behind it, and where there is neither."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from yolofpn import version
from yolofpn.version import FALLBACK, read_version

REPOSITORY = Path(__file__).parents[1]


def git(root: Path, *words: str) -> str:
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *settings, *words]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one commit; no package is installed."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "installed_version", missing)
    git(tmp_path, "init", "-q")
    (tmp_path / "pyproject.toml").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_tagged_commit_has_the_version_of_its_tag(clone: Path) -> None:
    git(clone, "tag", "v1.2.3")
    assert read_version(clone) == "1.2.3"


def test_commits_after_a_tag_count_towards_the_next_version(clone: Path) -> None:
    git(clone, "tag", "v1.2.9")
    git(clone, "tag", "unrelated")
    for _ in range(2):
        git(clone, "commit", "-q", "--allow-empty", "-m", "more")
    assert read_version(clone) == f"1.2.10.dev2+g{git(clone, 'rev-parse', '--short=9', 'HEAD')}"


def test_without_a_tag_the_installed_version_counts(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_version(clone) == FALLBACK
    monkeypatch.setattr(version, "installed_version", lambda name: f"{name} 7")
    assert read_version(clone) == "yolofpn 7"


def test_an_archive_without_git_has_the_version_that_pip_would_give_it(tmp_path: Path, clone: Path) -> None:
    assert read_version(tmp_path / "elsewhere") == FALLBACK
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools_scm"]["fallback_version"] == FALLBACK


def test_all_files_name_the_same_release() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.findall(r"^(?:version|date-released): \"?([^\"\n]+)", citation, re.MULTILINE)
    assert tuple(cited) == released[0] and released[0][0] == FALLBACK


def test_git_need_not_be_installed(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(clone, "tag", "v1.2.3")
    monkeypatch.setenv("PATH", "")
    assert read_version(clone) == FALLBACK


def test_importing_yolofpn_does_not_look_for_the_version() -> None:
    code = "import sys, yolofpn; print('yolofpn.version' in sys.modules); print(yolofpn.__version__)"
    command = [sys.executable, "-c", code]
    words = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert words == ["False", version.__version__]
