"""``benchmark.py --start``: what one image costs from the start of the program to its end, with PyTorch and without.

Every run is a process of its own with an empty cache, as on a machine that has never run it. All modules have been
compiled, as pip does it when it installs them. The candidates take turns, so that load on the machine affects them
equally; CPU time and memory hardly depend on that load.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from yolofpn.errors import UserError
from yolofpn.shipped import default_graph, default_weights, sample_images

ROOT = Path(__file__).resolve().parents[1]
# PyTorch is installed where this is measured; without it an import of it must fail as it does elsewhere.
WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "safetensors", "albumentations", "pycocotools", "matplotlib"):
    sys.modules[name] = None
"""
# Linux counts the memory of the process that starts another one as that one's own peak: this starts it, and is small.
_LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, time.perf_counter() - start, used.ru_maxrss], file)
sys.exit(os.waitstatus_to_exitcode(status))
"""
_MODULES = {
    True: ("inference.detection_run",),
    False: ("inference.detection_run", "inference.torch_network", "weights"),
}


@dataclass(frozen=True)
class Candidate:
    """A way to detect.

    Attributes:
        name: in the table.
        checkout: the clone whose code runs.
        weights: of its ``detect.py``; None: what it takes by itself.
        light: PyTorch is missing.
        extras: of pyproject.toml that are installed for it.
    """

    name: str
    checkout: Path
    weights: Path | None
    light: bool
    extras: tuple[str, ...]

    def command(self, source: str | Path, output: str | Path) -> list[str]:
        """Detect in a source."""
        words = ["detect", str(source), "--output", str(output)]
        words += [] if self.weights is None else ["--weights", str(self.weights)]
        return self._python(f"from yolofpn.__main__ import main\nraise SystemExit(main({words!r}))")

    def imports(self) -> list[str]:
        """Import what detection needs, and nothing else."""
        runtime = "import onnxruntime\n" if self.light else ""
        return self._python(runtime + "".join(f"import yolofpn.{name}\n" for name in _MODULES[self.light]))

    def _python(self, program: str) -> list[str]:
        return [sys.executable, "-c", (WITHOUT_TORCH if self.light else "") + program]


@dataclass
class Usage:
    """Of one process and those that it waited for.

    Attributes:
        cpu: seconds of all threads.
        wall: seconds.
        memory: bytes of the largest of these processes.
    """

    cpu: float
    wall: float
    memory: int


@dataclass
class Row:
    """The measurements of a candidate, one of each round."""

    name: str
    runs: list[Usage] = field(default_factory=list)
    imports: list[Usage] = field(default_factory=list)
    installed: int | None = None

    def summary(self) -> dict[str, Any]:
        """Medians in seconds and MB."""

        def median(values: Sequence[float]) -> float:
            return round(statistics.median(values), 3)

        return {
            "name": self.name,
            "cpu_s": median([run.cpu for run in self.runs]),
            "wall_s": median([run.wall for run in self.runs]),
            "peak_mb": median([run.memory / 1e6 for run in self.runs]),
            "import_s": median([run.cpu for run in self.imports]),
            "installed_mb": None if self.installed is None else round(self.installed / 1e6, 1),
            "runs": [asdict(run) for run in self.runs],
        }


def start_candidates(weights: Sequence[str], against: Path | None) -> list[Candidate]:
    """The candidate with PyTorch, that without, and the other clone.

    Args:
        weights: a graph and other weights, in any order; by default those that ship.
        against: another clone of this project, which runs as its users run it.

    Raises:
        UserError: no graph is there, or ``against`` is no clone.
    """
    graphs, others = ([Path(each) for each in weights if each.endswith(".onnx") is kind] for kind in (True, False))
    graph = graphs[0] if graphs else default_graph()
    if graph is None:
        raise UserError(
            "--start needs a graph: --weights FILE.onnx, or tools/export_default_graph.sh makes the default"
        )
    candidates = [
        Candidate("PyTorch", ROOT, others[0] if others else default_weights(), light=False, extras=("train",)),
        Candidate("without PyTorch", ROOT, graph.resolve(), light=True, extras=("runtime",)),
    ]
    if against is not None:
        clone = check_clone(against)
        candidates.append(Candidate(str(against), clone, None, light=False, extras=("train",)))
    return candidates


def measure_start(candidates: Sequence[Candidate], rounds: int) -> list[dict[str, Any]]:
    """The rows of the table.

    Args:
        candidates: see ``start_candidates``.
        rounds: runs of each.

    Raises:
        UserError: a candidate fails.
    """
    rows = [Row(each.name, installed=installed_bytes(each.checkout, each.extras)) for each in candidates]
    image = sample_images()[0]
    with tempfile.TemporaryDirectory() as bytecode:
        for turn in range(rounds + 1):
            for candidate, row in zip(candidates, rows, strict=True):
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    imports = run(candidate.imports(), candidate.checkout, folder, Path(bytecode))
                    whole = run(candidate.command(image, folder / "out"), candidate.checkout, folder, Path(bytecode))
                if turn:  # the first one compiles
                    row.imports.append(imports)
                    row.runs.append(whole)
    return [row.summary() for row in rows]


def check_clone(folder: Path) -> Path:
    """The absolute path of another clone.

    Raises:
        UserError: it is none.
    """
    if not (folder / "yolofpn" / "__main__.py").is_file():
        raise UserError(f"{folder}: is no clone of this project: give its folder")
    return folder.resolve()


def run(command: Sequence[str], checkout: Path, folder: Path, bytecode: Path) -> Usage:
    """``run_and_read``, without what it prints."""
    return run_and_read(command, checkout, folder, bytecode)[0]


def run_and_read(command: Sequence[str], checkout: Path, folder: Path, bytecode: Path) -> tuple[Usage, str]:
    """Run a program of ``checkout``, and wait for it; what it cost and printed.

    Args:
        command: words.
        checkout: the clone whose code runs.
        folder: the cache is in it, and the program starts there.
        bytecode: where compiled modules are kept from run to run.

    Raises:
        UserError: it fails.
    """
    report = folder / "used.json"
    words = [sys.executable, "-S", "-c", _LAUNCHER, str(report), *command]
    own = environment(checkout, folder, bytecode)
    done = subprocess.run(words, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise UserError(f"{checkout}: failed: {(done.stdout.strip().splitlines() or ['no output'])[-1]}")
    cpu, wall, memory = json.loads(report.read_text())
    return Usage(cpu, wall, memory * (1 if sys.platform == "darwin" else 1024)), done.stdout


def environment(checkout: Path, folder: Path, bytecode: Path) -> dict[str, str]:
    """The variables of a program of ``checkout``; see ``run_and_read``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {
        "PYTHONPATH": str(checkout),
        "YOLOFPN_CACHE": str(folder / "cache"),
        "PYTHONPYCACHEPREFIX": str(bytecode),
    }


def installed_bytes(checkout: Path, extras: Sequence[str], packages: Sequence[str] | None = None) -> int | None:
    """Bytes of the packages that a clone's pyproject.toml asks for with these extras, with all that they ask for.

    Args:
        checkout: the clone.
        extras: of its pyproject.toml.
        packages: these instead of what it asks for.

    Returns:
        None if one of the extras' own packages is not installed here.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = list(project["dependencies"] if packages is None else packages)
    for extra in extras:
        wanted += optional.get(extra, [])  # of older clones, whose dependencies hold everything
    found: dict[str, Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert match is not None
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        if name == project["name"]:
            wanted += [each for extra in (match[2] or "").split(",") for each in optional.get(extra, [])]
            continue
        if name in found or "extra ==" in requirement:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if ";" in requirement:  # for another system
                continue
            return None
        wanted += found[name].requires or []
    return sum(_size(each) for each in found.values())


def _size(package: Distribution) -> int:
    paths = (Path(str(package.locate_file(file))) for file in package.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file())
