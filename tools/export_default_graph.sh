#!/usr/bin/env bash
# Makes the ONNX graph of the default weights, with which `detect` needs no PyTorch, and lists its sha256.
#
#   tools/export_default_graph.sh [WEIGHTS_FOLDER]
#
# WEIGHTS_FOLDER  weights/ by default: SHA256SUMS names the default weights first; run this again whenever they change.
# Weights are stored in fp16, so a file that holds fp16 numbers already gives exactly the same detections. The graph is
# compared with PyTorch before it is left there. It is committed, so it must stay below 10 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath "${1:-weights}")
python=${PYTHON:-python}
export PYTHONPATH=$PWD

weights=$(sed -n '1s/^[0-9a-f]* [ *]//p' "$folder/SHA256SUMS")
graph=${weights%.*}.onnx
(cd "$folder" && sha256sum --quiet --check <(head -n 1 SHA256SUMS))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$python export.py --weights "$folder/$weights" --format onnx --precision fp16 "$work/$graph"
bytes=$(wc -c <"$work/$graph")
if [ "$bytes" -gt "${MAX_BYTES:-10000000}" ]; then
    echo "error: $graph has $bytes bytes, more than 10 MB: not left in $folder" >&2
    exit 1
fi
rm -f "$folder"/*.onnx
cp "$work/$graph" "$folder/$graph"
(
    cd "$folder"
    sed -i.old '/\.onnx$/d' SHA256SUMS
    rm SHA256SUMS.old
    sha256sum "$graph" >>SHA256SUMS
)
echo "written: $folder/$graph ($bytes bytes), $folder/SHA256SUMS"
