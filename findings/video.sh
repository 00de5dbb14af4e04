#!/usr/bin/env bash
# av 18.1.0 (FFmpeg 8.1), pillow 13.0.0. Valid input: a JPEG with EXIF, as cameras send it in MJPEG streams.
# FFmpeg 8 attaches the EXIF of a JPEG frame as side data of a new kind (31). PyAV's enum ends before it, and reading ANY side
# data of such a frame raises ValueError, also of kinds that it knows, such as the display matrix; even len() does. The frame
# itself, and its .rotation, are fine. FFmpeg's own `sidedata` filter takes the number of any kind, so deleting the unnamed ones
# in a filter graph gives the rest back.
# Guess that missed: that frame.side_data.get("DISPLAYMATRIX") gives None or the matrix.
# Seen: ValueError: 31 is not a valid Type / after the filter: ['Type.DISPLAYMATRIX']
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 pillow==13.0.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import io

import av
import PIL.Image
from av.filter import Graph

exif = PIL.Image.Exif()
exif[274] = 6  # orientation
data = io.BytesIO()
PIL.Image.new("RGB", (64, 48), "red").save(data, "JPEG", exif=exif)
frame = next(av.open(io.BytesIO(data.getvalue() * 2), format="mjpeg").decode(video=0))
try:
    frame.side_data.get("DISPLAYMATRIX")
except ValueError as error:
    print("ValueError:", error)
    assert "31" in str(error)
else:
    raise SystemExit("changed: the side data can be read")
graph = Graph()
source = graph.add_buffer(width=64, height=48, format=frame.format, time_base=frame.time_base)
graph.link_nodes(source, graph.add("sidedata", "mode=delete:type=31"), graph.add("buffersink")).configure()
graph.push(frame)
kinds = [str(each.type) for each in graph.vpull().side_data]
print("after the filter:", kinds)
assert kinds == ["Type.DISPLAYMATRIX"]
PYTHON
