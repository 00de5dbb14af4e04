#!/usr/bin/env bash
# PyTorch 2.13: most of the time that torch.onnx.export takes for a small network goes into tables that do not depend on it.
#
# Guess that missed: the first export of a process is slow, as it imports and registers everything; the second one takes what
# its few operators need.
# Behaviour: each export builds the registry of all ONNX translations anew, and each decomposition asks every operator of every
# namespace whether it is composite. Nothing keeps either table. For one convolution this is most of a warm export.
# Output seen: "third export: 2.2 s of CPU, 3 registries for 3 exports; with both tables kept 0.4 s, the same file: True".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
PYTHONWARNINGS=ignore venv/bin/python - <<'PY'
import functools
import time

import torch
from torch._export import utils
from torch.onnx._internal.exporter import _registration

made = []
build = _registration.ONNXRegistry.from_torchlib
_registration.ONNXRegistry.from_torchlib = staticmethod(lambda **given: (made.append(1), build(**given))[1])
network, image = torch.nn.Conv2d(3, 4, 3).eval(), (torch.zeros(1, 3, 16, 16),)


def export() -> tuple[float, bytes]:
    start = time.process_time()
    model = torch.onnx.export(network, image, dynamo=True, verbose=False).model_proto
    return time.process_time() - start, model.graph.SerializeToString(deterministic=True)


for _ in range(3):
    seconds, content = export()
count = len(made)
_registration.ONNXRegistry.from_torchlib = staticmethod(functools.cache(build))
name = "_collect_all_valid_cia_ops_for_namespace"
setattr(utils, name, functools.cache(getattr(utils, name)))
export()
kept, same = export()
print(f"third export: {seconds:.1f} s of CPU, {count} registries for 3 exports; with both tables kept {kept:.1f} s, the same file: {same == content}")
assert count == 3 and same == content and kept < seconds / 2
PY
