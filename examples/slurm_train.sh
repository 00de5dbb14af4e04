#!/bin/bash
# Training on two machines with four GPUs each; a job that is requeued, as after a preemption, resumes.
#
#   sbatch examples/slurm_train.sh --cfg yolofpn --data /shared/data.yaml --output /shared/runs/big
#SBATCH --job-name=yolofpn-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${first%%$'\n'*} # without a pipe to head, which ends scontrol, and with pipefail the job, now and then
export first gpus=4 # as in --gpus-per-node above
# shellcheck disable=SC2016 # each machine puts in its own number
exec srun --kill-on-bad-exit=1 bash -c 'exec torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$gpus" \
    --node-rank "$SLURM_NODEID" --master-addr "$first" --master-port 29500 --max-restarts 3 \
    train.py --auto-resume "$@"' train "$@"
