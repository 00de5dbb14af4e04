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

import torch
from yolofpn.runtimes.openvino import OpenVINOGraph
import openvino

class Identity(torch.nn.Module):
    def forward(self, batch):
        return batch.float() / 255

model = openvino.convert_model(Identity(), example_input=torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
openvino.save_model(model, "graph.xml")
graph = OpenVINOGraph(lambda size: Path("graph.xml"), ["p3"], (32, 32), "fp32")
assert graph.start(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))()["p3"].min() == 1
assert stack() == before, (stack(), before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the plugin changes the stack on Linux alone")
@pytest.mark.parametrize("option", ["faulthandler", "none"])
def test_openvino_leaves_the_signal_stack_as_it_was(option: str, in_own_folder: None) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, option], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
