"""Tables of operators, which PyTorch makes anew for each graph: that takes longer than to export a small network."""

from __future__ import annotations

import functools
import sys
from typing import Any

# Of these modules, which take seconds to import: a function, or a class and its class method.
_MAKERS = {
    "torch.onnx._internal.exporter._registration": ("ONNXRegistry", "from_torchlib"),
    "torch._export.utils": ("_collect_all_valid_cia_ops_for_namespace",),
}
_kept: set[str] = set()


def keep_tables() -> None:
    """Have each of the modules that has been imported by now make its tables once; no test may add to one."""
    for name in _MAKERS.keys() & sys.modules.keys() - _kept:
        *owners, function = _MAKERS[name]
        owner: Any = sys.modules[name]
        for part in owners:
            owner = getattr(owner, part, None)  # another thread is about to import it
        if (make := getattr(owner, function, None)) is not None:
            setattr(owner, function, staticmethod(functools.cache(make)))  # a class method knows its class
            _kept.add(name)
