#!/usr/bin/env bash
# safetensors 0.8.0 (Linux, Python 3.11): permissions of the files that save_file writes.
# Behaviour: save_file leaves a file that only its owner may read and write (mode 0600), whatever the umask says, and
#   also where a file of mode 0644 was there before: it is replaced, and its permissions are lost. So weights in a
#   shared folder, or of a service with another user, cannot be read.
# Seen: "new: 0600", "over 0644: 0600".
# The guess that missed: that a library writes as open() does (0644 under umask 022), and that overwriting a file keeps
#   its mode.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check numpy==2.3.5 safetensors==0.8.0
cd "$folder"
umask 022
"$folder/venv/bin/python" - <<'PY'
import os
import stat

import numpy as np
from safetensors.numpy import save_file


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


save_file({"a": np.zeros(3, np.float32)}, "new.safetensors")
open("old.safetensors", "w").close()
before = mode("old.safetensors")
save_file({"a": np.zeros(3, np.float32)}, "old.safetensors")
print(f"new: {mode('new.safetensors'):04o}")
print(f"over {before:04o}: {mode('old.safetensors'):04o}")
assert mode("new.safetensors") == 0o600 and before == 0o644 and mode("old.safetensors") == 0o600
PY
