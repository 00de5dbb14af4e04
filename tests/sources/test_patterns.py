"""Patterns: what ``glob`` finds, by a walk that ends."""

from __future__ import annotations

import glob
import os
from contextlib import chdir
from pathlib import Path

import pytest

from yolofpn.reading import MAX_FOLDER_DEPTH
from yolofpn.sources.patterns import matching_paths

PATTERNS = [
    *("*", "**", "**/*", "**/*.png", "a/**", "a/**/*.png", "**/b", "**/b/*.png", "*/*", "*/b/**/*.png", "?", "[ab]"),
    *("**/**/*.png", "**/a/**/*.png", "nothing/**/*.png", "a/1.png", "a/*.jpg", "*/1.png", "**/[12].png"),
    *(".*", ".*/*", ".hidden/**/*.png", "**/.hidden/*.png", "a/../a/*.png", "./a/*.png", "[[]x]/*.png", "*]/*"),
]


@pytest.fixture
def tree(in_own_folder: Path) -> Path:
    for name in ("1.png", "a/1.png", "a/2.png", "a/b/1.png", "a/b/c/3.png", "b/1.png", "[x]/1.png", "a/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for name in (".hidden/1.png", "a/.hidden/1.png", ".1.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("b/link").symlink_to(Path("a").absolute())
    Path("b/broken.png").symlink_to("nowhere")
    return in_own_folder


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_they_find_what_glob_finds(pattern: str, absolute: bool, tree: Path) -> None:
    written = str(tree / pattern) if absolute else pattern
    expected = {Path(path) for path in glob.glob(written, recursive=True)}  # noqa: PTH207 the reference
    found = {Path(path) for path in matching_paths(written)}
    # glob also gives the folder above **, which is no file.
    above = Path(written).parent if pattern.endswith("**") else Path()
    assert found - {above} == expected - {above}


def test_a_link_that_leads_back_up_ends_the_walk(tree: Path) -> None:
    Path("a/b/up").symlink_to(tree)
    Path("a/own").symlink_to("own")
    found = list(matching_paths("**/*.png"))
    assert "a/b/c/3.png" in {os.path.normpath(path) for path in found}
    assert len(found) < 30


def test_folders_nested_too_deep_are_skipped_and_named(in_own_folder: Path) -> None:
    with chdir(in_own_folder):
        for depth in range(MAX_FOLDER_DEPTH + 3):
            Path(f"{depth}.png").touch()
            Path("d").mkdir()
            os.chdir("d")
    too_deep: list[str] = []
    names = [Path(path).name for path in matching_paths("**/*.png", too_deep)]
    assert names == [f"{depth}.png" for depth in range(MAX_FOLDER_DEPTH)]
    assert [Path(path).parts for path in too_deep] == [("d",) * MAX_FOLDER_DEPTH]
