#!/usr/bin/env bash
# labelformat 0.1.17: what stands in a line of KITTI's text files.
#
# Guess that missed: a line is split at spaces into 15 columns (16 with a score), and the first is the class.
# Behaviour: labelformat writes class names as they are, with their spaces, so "traffic light" gives 16 columns without a
# score, and the box begins one column later. Only the run of 14 or 15 numbers at the end tells class from numbers.
# Output seen: "traffic light -1 -1 -10 10.5 2.0 40.0 20.25 -1 -1 -1 -1000 -1000 -1000 -10".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet labelformat==0.1.17
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import json
from pathlib import Path

from labelformat.formats import COCOObjectDetectionInput, KittiObjectDetectionOutput

tree = {
    "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
    "categories": [{"id": 1, "name": "traffic light"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10.5, 2, 29.5, 18.25]}],
}
Path("in.json").write_text(json.dumps(tree))
KittiObjectDetectionOutput(output_folder=Path("out")).save(
    label_input=COCOObjectDetectionInput(input_file=Path("in.json"))
)
line = Path("out/a.txt").read_text().strip()
print(line)
assert line.startswith("traffic light ") and len(line.split()) == 16, line
PY
