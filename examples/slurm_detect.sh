#!/bin/bash
# Detection in a folder with an array of 16 jobs; a job that is requeued resumes.
#
#   sbatch examples/slurm_detect.sh /data/photos /data/out --weights weights.safetensors
#SBATCH --job-name=yolofpn-detect
#SBATCH --array=1-16
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --requeue
set -euo pipefail
parts=16 # as in --array above; a single part can be repeated with sbatch --array=3
images=$1 output=$2/$SLURM_ARRAY_TASK_ID
shift 2
mkdir -p "$output"
exec python detect.py "$images" --shard "$SLURM_ARRAY_TASK_ID/$parts" --resume "$output" --media none "$@"
