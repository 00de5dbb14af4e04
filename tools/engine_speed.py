"""Images per second of detect.py alone, and with one and two workers of an engine: python tools/engine_speed.py IMAGES.

The runs take turns, so that what else the machine does meets all of them. Of a run without an engine the time for one
image is subtracted. An engine's speed is that between its first and its last part file, since its start takes as long
as very many images; the whole command is in a column of its own. Needs ray[data]; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PART = 16  # images of a part file: many parts for each worker
SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Run them in turns and print a line for each run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="IMAGES", help="folder of images")
    parser.add_argument("--count", type=int, default=400, help="images of a run; the folder is taken again and again")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("words", nargs="*", help="flags of detect.py after --, such as -- --weights W --batch-size 8")
    arguments = parser.parse_args()
    if arguments.count <= 2 * PART:
        parser.error(f"--count {arguments.count}: give more than {2 * PART}, two parts")
    images = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not images:
        parser.error(f"{arguments.folder}: no images in it")
    found: dict[str, list[tuple[float, float]]] = {}
    with TemporaryDirectory() as made:
        folder = Path(made)
        for index, path in enumerate(islice(cycle(images), arguments.count)):
            (folder / "in").mkdir(exist_ok=True)
            (folder / "in" / f"{index:06d}{path.suffix}").symlink_to(path.resolve())
        for number in range(1, arguments.rounds + 1):
            for name in ("no engine", "1 worker", "2 workers"):
                speeds = measure(name, folder, arguments.count, arguments.words, f"{number}-{name[0]}")
                found.setdefault(name, []).append(speeds)
                print(line(f"round {number}", name, *speeds), flush=True)
    for name, runs in found.items():
        print(line("median", name, *(median(each) for each in zip(*runs, strict=True))))


def line(what: str, name: str, speed: float, with_start: float) -> str:
    """A row of the table."""
    return f"{what:8} {name:9}  {speed:7.1f} images/s  {with_start:7.1f} with the start"


def measure(name: str, folder: Path, count: int, words: list[str], output: str) -> tuple[float, float]:
    """Images per second without and with the start of the command."""
    flags = [*words, "--media", "none"]
    if name == "no engine":
        one = seconds([str(folder / "in" / "000000.*"), *flags, "--output", str(folder / f"{output}-one")])
        whole = seconds([str(folder / "in"), *flags, "--output", str(folder / output)])
        return (count - 1) / (whole - one), count / whole
    engine = ["--engine", "ray", "--workers", name[0], "--part-size", str(PART), "--format", "jsonl"]
    whole = seconds([str(folder / "in"), *flags, *engine, "--output", str(folder / output)])
    parts = sorted((folder / output).glob("part-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    lines = [sum("error" not in json.loads(line) for line in path.read_text().splitlines()) for path in parts]
    if sum(lines) != count:
        raise SystemExit(f"{sum(lines)} of {count} images have detections")
    between = (parts[-1].stat().st_mtime_ns - parts[0].stat().st_mtime_ns) / 1e9
    return sum(lines[1:]) / between, count / whole


def seconds(words: list[str]) -> float:
    """The duration of a command."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "detect.py"), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
