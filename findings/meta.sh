#!/usr/bin/env bash
# PyTorch 2.13: the first product on the meta device imports the compiler, some 800 modules; the first sum imports nothing.
#
# Guess that missed: tensors of the meta device have no numbers, so to build a network there costs next to nothing, whatever its
# constructors compute.
# Behaviour: some operators have a shape function in C++ for this device (sum, max, copy_, zeros, kaiming_uniform_), others go through
# Python's references, whose first call imports torch._inductor, torch._dynamo and sympy (product, mean, std, sqrt, cat, normal_ and
# so kaiming_normal_): 2 s of CPU time in each process. Softmax and convolutions import sympy, but not the compiler.
# Output seen: "product: 822 modules, 2.4 s | kaiming_normal_: 822 modules, 2.1 s | softmax: 474 modules, 0.6 s | sum: 0 modules |
# kaiming_uniform_: 0 modules".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >probe.py <<'PY'
import sys
import time

import torch

CALLS = {
    "product": lambda w: w * 2,
    "kaiming_normal_": torch.nn.init.kaiming_normal_,
    "softmax": lambda w: w.softmax(1),
    "sum": lambda w: w.sum(),
    "kaiming_uniform_": torch.nn.init.kaiming_uniform_,
}
name = sys.argv[1]
weight = torch.empty(16, 3, 3, 3, device="meta")
before, start = set(sys.modules), time.process_time()
CALLS[name](weight)
new, seconds = set(sys.modules) - before, time.process_time() - start
print(f"{name}: {len(new)} modules, {seconds:.1f} s, compiler: {'torch._inductor' in new}, sympy: {'sympy' in new}")
compiler, symbols = {"product": (1, 1), "kaiming_normal_": (1, 1), "softmax": (0, 1)}.get(name, (0, 0))
assert ("torch._inductor" in new, "sympy" in new) == (bool(compiler), bool(symbols))
assert len(new) > 400 if symbols else not new
PY
for name in product kaiming_normal_ softmax sum kaiming_uniform_; do
    venv/bin/python probe.py "$name"
done
