#!/usr/bin/env bash
# fsspec 2026.9.0. Valid input: any file system, walked with the documented on_error="raise".
# AbstractFileSystem.walk obeys on_error for the first folder only: it calls itself for the folders below without passing it on,
# so there the default, "omit", applies. A folder below that cannot be listed, such as for one refused request of object storage,
# is silently empty, and a copy or an index made with walk or find lacks its files. Listing each folder with ls() raises.
# Guess that missed: that on_error="raise" raises for every folder, as os.walk(onerror=...) does.
# Seen: top folder: raised / folder below: silently []
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q fsspec==2026.9.0
"$folder/venv/bin/python" - <<'PYTHON'
from fsspec.implementations.memory import MemoryFileSystem


class Refusing(MemoryFileSystem):
    protocol = "refusing"
    cachable = False
    refused = ""

    def ls(self, path, detail=True, **kwargs):
        if path.rstrip("/") == self.refused:
            raise OSError("503 Slow Down")
        return super().ls(path, detail=detail, **kwargs)


files = Refusing()
files.pipe_file("/top/below/a.jpg", b"")
files.pipe_file("/top/b.jpg", b"")


def names():
    return [name for _, _, found in files.walk("/top", on_error="raise") for name in found]


assert sorted(names()) == ["a.jpg", "b.jpg"]
files.refused = "/top"
try:
    names()
except OSError:
    print("top folder: raised")
else:
    raise SystemExit("changed: the top folder is omitted too")
files.refused = "/top/below"
found = names()
print("folder below: silently", [name for name in found if name != "b.jpg"])
assert found == ["b.jpg"], "changed: on_error reaches the folders below"
PYTHON
