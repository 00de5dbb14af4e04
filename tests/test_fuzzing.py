"""Mutated files of every format through the commands: an exit code and a line, never a traceback, within limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzzing import FORMATS, MEMORY, Mutation, limited, mutate, prepare, run_case

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits of memory and time are those of POSIX")

MUTATIONS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9), st.integers(0, 10**6)), min_size=1, max_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fuzzing")
    with chdir(folder):
        prepare(folder)
        yield folder


@pytest.mark.parametrize("name", FORMATS)
def test_the_unchanged_file_is_read(folder: Path, name: str) -> None:
    verdict = run_case(name, [], folder)
    # The checkpoint's config is empty on purpose: a complete one would be trained.
    assert verdict.code == (2 if name == "checkpoint" else 0), verdict.printed


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files(folder: Path, name: str) -> None:
    @seed(0)
    @settings(max_examples=8, database=None, suppress_health_check=list(HealthCheck))
    @given(MUTATIONS)
    def holds(mutations: list[Mutation]) -> None:
        verdict = run_case(name, mutations, folder)
        assert verdict.code in (0, 1, 2)
        assert len(verdict.printed) < 20_000
        assert not any(ord(character) < 32 and character not in "\n\t\r" for character in verdict.printed)

    holds()


def test_mutations_change_what_they_should() -> None:
    assert mutate(b"a: 1", [(0, 0, 0)]) == b"a: 1e12"
    assert mutate(b"abcdef", [(1, 5, 1)]) == b"adef"


def test_limits_hold() -> None:
    with limited(), pytest.raises(MemoryError):
        bytearray(2 * MEMORY)
