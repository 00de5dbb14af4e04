#!/usr/bin/env bash
# Uses an installed yolofpn as its first user would: bash try_package.sh BIN_FOLDER EMPTY_FOLDER
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$2"

"$bin/yolofpn" --version
"$bin/yolofpn" --help
for command in detect train evaluate export; do
  "$bin/yolofpn" "$command" --help >/dev/null
done

# What only a clone has, one line says.
[ "$("$bin/yolofpn" study 2>&1 | wc -l)" -eq 1 ]

# The default weights, the sample images and the configs are in the package.
"$bin/yolofpn" detect --output detected
[ "$(wc -l <detected/detections.jsonl)" -eq 4 ]
grep -q '"name": "person"' detected/detections.jsonl
"$bin/yolofpn" summary yolofpn-lite.yaml
"$bin/yolofpn" convert "$("$bin/python" -c 'from yolofpn.shipped import default_weights; print(default_weights())')" copy.safetensors
"$bin/yolofpn" detect --weights copy.safetensors --output again --media none
diff detected/detections.jsonl again/detections.jsonl

# A training of one epoch on labels made from those detections.
"$bin/yolofpn" detect --weights copy.safetensors --output labels --format labels --media none
"$bin/yolofpn" train --cfg yolofpn-lite --data labels/dataset --epochs 1 --batch-size 2 --img-size 96 --workers 0 --output run
"$bin/yolofpn" detect --weights run --output last --media none
