"""Converted graphs and how they compare with PyTorch, kept between runs in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from yolofpn import runtimes
from yolofpn.config import Metadata
from yolofpn.errors import UserError
from yolofpn.files import cache_folder, unfinished
from yolofpn.hardware import cpu_name, num_threads
from yolofpn.runtimes.libraries import versions
from yolofpn.runtimes.tuned import pinned_graphs
from yolofpn.version import __version__

_VERSION = f"{__version__}, 3"  # the number counts changes of graphs and comparisons between two releases
_SUMS = ".sums"
KEPT_GRAPHS = 8  # of the newest use; the full model's takes 250 MB
ABANDONED = 86_400  # seconds; no conversion takes so long


def graph_folder() -> Path:
    """Return the folder of cached graphs and verdicts."""
    return cache_folder() / "graphs"


def fingerprint(network: nn.Module, metadata: Metadata) -> str:
    """Return a key that is equal for networks with equal weights and structure."""
    digest = hashlib.blake2b(digest_size=32)
    described = metadata.model_dump(mode="json", include={"model", "darknet_cfg", "input"})
    described["input"] = {name: described["input"][name] for name in ("mean", "std")}
    if not metadata.input.is_plain:  # a graph for bands takes floats
        described["input"]["is_float"] = True
    digest.update(json.dumps(described, sort_keys=True).encode())
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        digest.update(f"{type(norm).__name__} {norm.eps}".encode())
    for name, tensor in network.state_dict().items():
        if name.endswith(".num_batches_tracked"):  # which files do not hold, and nothing reads
            continue
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def key(*parts: object) -> str:
    """A short name for a file of what all ``parts`` and the version of this code determine together."""
    return hashlib.sha256(json.dumps([_VERSION, *map(str, parts)]).encode()).hexdigest()[:32]


def machine() -> str:
    """Return the architecture, CPU name and number of threads of this machine."""
    return f"{platform.machine()} {cpu_name()}, {num_threads()} threads"


def library_versions(backend: str) -> str:
    """Return the versions of the libraries that a backend's graph depends on."""
    return versions("torch", *(() if backend == "torch" else runtimes.runtime_named(backend).packages))


def cached_graph(name: str, suffix: str, write: Callable[[Path], None], check: Callable[[Path], object]) -> Path:
    """The graph file ``name``; made by ``write`` if it is not there, was damaged, or is not what ``check`` can open.

    Args:
        name: without suffix.
        suffix: of the runtime's graphs.
        write: makes the file, and those beside it, under the path that it is given.
        check: raises any error if it cannot open the file, a new one too.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = graph_folder()
    path = folder / f"{name}{suffix}"
    if path.is_file():
        try:
            _check_sums(path)
            check(path)
            os.utime(path)
            return path
        except Exception:  # whatever is wrong with it, a new one takes its place
            with _write_errors(folder):
                remove_graph(path)
    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{name}.{os.getpid()}"
        unfinished.mkdir(exist_ok=True)
        try:
            write(unfinished / path.name)
            check(unfinished / path.name)
            sums = {file.name: _sum(file) for file in unfinished.iterdir()}
            (unfinished / f"{name}{_SUMS}").write_text(json.dumps(sums))
            # The graph itself comes last: with it the graph is there.
            for file in sorted(unfinished.iterdir(), key=lambda file: file.suffix == suffix):
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    _forget_oldest(folder)
    return path


def work_folder(name: str) -> Path:
    """A new folder for what is needed to make the graph ``name``; an abandoned one is removed some day.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = graph_folder() / f"{name}.{os.getpid()}.work"
    with _write_errors(graph_folder()):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check_sums(path: Path) -> None:
    """See that the files of a graph are those that were written: a flipped bit would move boxes without a word.

    Raises:
        ValueError: they are not.
    """
    sums = json.loads(path.with_suffix(_SUMS).read_text())
    if path.name not in sums or any(_sum(path.with_name(name)) != value for name, value in sums.items()):
        raise ValueError(f"{path}: is damaged")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def has_graph(name: str) -> bool:
    """Return whether ``cached_graph`` would find a graph."""
    return any((graph_folder() / f"{name}{known.suffix}").is_file() for known in runtimes.RUNTIMES)


def remove_graph(path: Path) -> None:
    """Delete all files of a graph."""
    runtime = runtimes.runtime_of(path)
    for file in (*(runtime.files(path) if runtime else [path]), path.with_suffix(_SUMS)):
        file.unlink(missing_ok=True)


def read_verdict(name: str) -> dict[str, Any] | None:
    """Read the verdict written by ``write_verdict``; None if it is missing or unreadable."""
    try:
        verdict = json.loads((graph_folder() / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) else None


def write_verdict(name: str, verdict: dict[str, Any]) -> None:
    """Write a verdict; errors are ignored, and it is computed again next time."""
    with contextlib.suppress(OSError):
        graph_folder().mkdir(parents=True, exist_ok=True)
        with unfinished(graph_folder() / f"{name}.json", unique=True) as part:
            part.write_text(json.dumps(verdict))


def _forget_oldest(folder: Path) -> None:
    """Graphs beyond those that are kept, and what runs that were killed left behind; what ``tune`` chose stays."""
    now, pinned = time.time(), pinned_graphs()
    graphs = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run has been faster
            used = path.stat().st_mtime
            if runtimes.runtime_of(path) and path.stem not in pinned:
                graphs.append((used, path))
            elif path.is_dir() and now - used > ABANDONED:
                shutil.rmtree(path, ignore_errors=True)
    for _, path in sorted(graphs, reverse=True)[KEPT_GRAPHS:]:
        remove_graph(path)


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot keep graphs ({error.strerror or error}): "
            "name another folder in YOLOFPN_CACHE, or take --backend torch"
        ) from None
