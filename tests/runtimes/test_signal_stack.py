"""Signals must find room for the processor's registers after OpenVINO's plugin is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from pathlib import Path

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def stack():
    found = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.start, found.flags, found.size

if "faulthandler" in sys.argv:
    import faulthandler
    faulthandler.enable()
before = stack()

import numpy as np
from yolofpn.runtimes.openvino import OpenVINO, OpenVINOGraph

openvino = OpenVINO.library()
ops = openvino.opset13
images = ops.parameter([1, 3, 32, 32], np.uint8)
model = openvino.Model([ops.divide(ops.convert(images, "f32"), ops.constant(np.float32(255)))], [images])
openvino.save_model(model, "graph.xml")
graph = OpenVINOGraph(lambda size: Path("graph.xml"), ["p3"], (32, 32), "fp32")
assert graph.start(np.full((1, 3, 32, 32), 255, np.uint8))()["p3"].min() == 1
assert stack() == before, (stack(), before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the plugin changes the stack on Linux alone")
@pytest.mark.parametrize("option", ["faulthandler", "none"])
def test_openvino_leaves_the_signal_stack_as_it_was(option: str, in_own_folder: None) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, option], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
