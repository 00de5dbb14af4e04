#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): a colour conversion starts threads of its own that nothing names and that `close` does not end.
#
# Guess that missed: converting a frame (VideoReformatter.reformat, frame.reformat, to_ndarray with a format) is a plain
# function call, and closing a container ends all threads of a video.
# Behaviour: each VideoReformatter (each frame converted by itself has its own) keeps one swscale thread per processor from
# its first conversion on, until it is garbage; a reference cycle keeps them until the next full collection. 20 kept ones
# on 2 processors: 40 threads more. `threads=1` starts none.
# Output seen (2 processors): "before 1, 20 reformatters 41, threads=1 1" (the last after the others are gone).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import os

import av
import numpy as np
from av.video.reformatter import VideoReformatter


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


frame = av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8), format="bgr24")
before = threads()
kept = [VideoReformatter() for _ in range(20)]
for each in kept:
    each.reformat(frame, format="yuv420p")
many = threads()
del kept, each
single = [VideoReformatter() for _ in range(20)]
for each in single:
    each.reformat(frame, format="yuv420p", threads=1)
print(f"before {before}, 20 reformatters {many}, threads=1 {threads()}")
processors = len(os.sched_getaffinity(0))
assert processors == 1 or many - before >= 20, "conversions start no threads any more"
assert threads() == before, "threads=1 starts threads"
PY
