#!/usr/bin/env bash
# The default weights: published yolov3-tiny weights (public domain), fine-tuned on Pascal VOC and COCO images together.
#
#   tools/train_default_weights.sh VOC COCO yolov3-tiny.weights OUT
#
# VOC   holds Annotations/, ImageSets/ and JPEGImages/; COCO holds images/ and instances.json.
# OUT   receives the merged data set, the runs and default.safetensors. Started again, it resumes where it stopped.
# Time  about two hours of two CPU cores. DEVICE=cuda uses a GPU.
set -euo pipefail
voc=$(realpath "$1") coco=$(realpath "$2") published=$(realpath "$3")
mkdir -p "$4"
out=$(realpath "$4")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
device=${DEVICE:-auto}
export PYTHONPATH=$PWD

# A cfg beside the weights would be taken in place of the one with the masks that they were trained with.
[ -e "$out/published.weights" ] || cp "$published" "$out/published.weights"
[ -e "$out/teacher.safetensors" ] ||
    $python -m yolofpn convert "$out/published.weights" "$out/teacher.safetensors" --cfg cfg/yolov3-tiny.yaml
[ -e "$out/data/data.yaml" ] ||
    $python tools/merge_voc_coco.py --voc "$voc" --coco "$coco" --teacher "$out/teacher.safetensors" "$out/data"

frozen=backbone.stages.0,backbone.stages.1,backbone.stages.2,backbone.stages.3
step() { # NAME WEIGHTS [flags and overrides]
    local run=$out/$1 weights=$2
    shift 2
    [ -e "$run/done" ] && return
    if [ -e "$run/last.pt" ]; then
        $python train.py --resume "$run"
    else
        $python train.py --cfg cfg/yolov3-tiny.yaml --data "$out/data/data.yaml" --weights "$weights" --output "$run" \
            --device "$device" --epochs 1 --batch-size 16 train.nominal_batch_size=16 train.repeat_thresh=0.01 \
            train.reference_images=null "train.freeze=[$frozen]" augment.close_epochs=0 train.ema_steps=100 "$@"
    fi
    touch "$run/done"
}
step run1 "$out/teacher.safetensors" train.epoch_batches=300 train.optimizer.lr=2e-4 augment.mosaic=0.35 \
    'augment.scale=[0.7, 1.3]' 'train.multi_scale={lowest: 288, highest: 416, step: 32}' \
    'train.schedule={type: cosine, final: 0.85}'
step run2 "$out/run1" train.epoch_batches=360 train.optimizer.lr=1.8e-4 augment.mosaic=0.25 \
    'augment.scale=[0.7, 1.3]' 'train.multi_scale={lowest: 288, highest: 416, step: 32}' train.seed=1
average() { # TRAINED SHARE OUT [flags]
    $python tools/average_weights.py "$out/teacher.safetensors" "$1" "$3" --share "$2" "${@:4}"
}
[ -e "$out/middle.safetensors" ] || average "$out/run2" 0.7 "$out/middle.safetensors"
step run3 "$out/middle.safetensors" train.epoch_batches=260 train.optimizer.lr=2e-4 augment.mosaic=0.15 augment.crop=0.5 \
    'augment.scale=[0.8, 1.8]' train.warmup_steps=10 train.ema_decay=0.99 train.seed=3
step run4 "$out/run3" --epochs 3 train.optimizer.lr=3e-4 'train.schedule={type: cosine, final: 0.03}' augment.mosaic=0.3 \
    'augment.scale=[0.6, 1.7]' augment.crop=0.3 'train.multi_scale={lowest: 256, highest: 416, step: 32}' train.ema_steps=200
average "$out/run4" 0.6 "$out/mean.safetensors" --bits 8
$python tools/calibrate_scores.py "$out/mean.safetensors" "$out/calibrated.safetensors" --data "$out/data/data.yaml" "$voc"
$python tools/average_weights.py "$out/calibrated.safetensors" "$out/calibrated.safetensors" "$out/default.safetensors" \
    --share 1 --bits 8 --card docs/model-card.md
ls -l "$out/default.safetensors"
