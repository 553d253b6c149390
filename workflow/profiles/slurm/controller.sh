#!/usr/bin/env bash
# The controller as a small job of its own, for sites that forbid long processes on the login node. From the checkout:
#
#   make .venv/.ready                                        # once, where the network is
#   sbatch workflow/profiles/slurm/controller.sh SCALE=paper # what follows goes to `make reproduce`
#
# A controller whose time is over is queued again and goes on. It ends when the atlas is complete, or when something
# needs a person: its output, controller-<job>.log, says what.
#SBATCH --job-name=ontogeny-controller
#SBATCH --cpus-per-task=1
#SBATCH --mem=2000
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=controller-%j.log
set -uo pipefail

trap 'scontrol requeue "$SLURM_JOB_ID"' USR1 # sent two minutes before the end of the time
make reproduce PROFILE=workflow/profiles/slurm "$@" &
controller=$!
while kill -0 "$controller" 2>/dev/null; do
    wait "$controller" # ends early when the signal arrives
    status=$?
done
exit "$status"
