"""How much of the package one frame passes: python tools/frame_path.py WEIGHTS VIDEO.

Runs detect.py on a video and counts the package's own functions, and their files, that are called at least once for
each frame, in whatever thread: those of the steady state.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

import av

PACKAGE = str(Path(__file__).resolve().parents[1] / "yolofpn")


def main(weights: str, video: str) -> None:
    """Print the two numbers, and the functions by file."""
    from yolofpn.cli.detect import main as detect

    with av.open(video) as container:
        frames = sum(1 for _ in container.decode(video=0))
    calls: Counter[CodeType] = Counter()
    started = False

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal started
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            started = started or code.co_qualname == "Predictor.start"
            if started:
                calls[code] += 1

    threading.setprofile(profile)
    sys.setprofile(profile)
    with TemporaryDirectory() as folder:
        code = detect([video, "--weights", weights, "--output", folder])
    sys.setprofile(None)
    assert code == 0
    by_file: dict[str, list[str]] = {}
    for each, count in calls.items():  # up to ten frames are read before the first goes into the network
        if count >= frames - 10 and not each.co_name.startswith("<"):  # lambdas and comprehensions count with theirs
            by_file.setdefault(each.co_filename.removeprefix(PACKAGE + "/"), []).append(each.co_qualname)
    for name, functions in sorted(by_file.items()):
        print(f"{name}: {', '.join(sorted(functions))}")
    total = sum(map(len, by_file.values()))
    print(f"{total} functions in {len(by_file)} files for each of {frames} frames")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", metavar="WEIGHTS")
    parser.add_argument("video", metavar="VIDEO")
    main(**vars(parser.parse_args()))
