#!/usr/bin/env bash
# Linux: the peak memory that wait4 gives for a program includes that of the process which started it.
#
# Guess that missed: ru_maxrss of a child that runs another program (subprocess, then os.wait4) is the peak of that program.
# Behaviour: until the program is executed the child is a copy of its parent, or shares its memory, and the kernel keeps the
# peak across exec: `python -c pass` started by a process of 300 MB has a peak of 300 MB. Started by a small process in
# between, it has its own 10 MB. A benchmark that has imported a large library measures that library everywhere.
# Output seen: "started by a large process 316 MB, through a small one 10 MB".
set -euo pipefail
python3 - <<'PY'
import os
import subprocess
import sys

held = bytearray(300_000_000)
held[::4096] = b"1" * len(held[::4096])

process = subprocess.Popen([sys.executable, "-c", "pass"])
direct = os.wait4(process.pid, 0)[2].ru_maxrss / 1024
small = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", "pass"])
print(os.wait4(pid, 0)[2].ru_maxrss / 1024)
"""
through = float(subprocess.run([sys.executable, "-S", "-c", small], capture_output=True, text=True, check=True).stdout)
print(f"started by a large process {direct:.0f} MB, through a small one {through:.0f} MB")
assert direct > 250 and through < 50
PY
