#!/bin/bash
# Detection in a folder with an array of 16 jobs; a job that is requeued goes on where it was.
#
#   sbatch examples/slurm_detect.sh /data/photos /data/out --weights weights.safetensors
#SBATCH --job-name=yolofpn-detect
#SBATCH --array=1-16
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --requeue
set -euo pipefail
images=$1 output=$2/$SLURM_ARRAY_TASK_ID
shift 2
mkdir -p "$output"
exec python detect.py "$images" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --resume "$output" --media none "$@"
