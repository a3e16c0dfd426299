#!/usr/bin/env bash
# The device check: scores on one GPU against those on the CPU, tokens per second, memory against the plan. Under eight minutes, no network.
#   tests/gpu/check.sh [FOLDER]                         the tables go to FOLDER, else $OUT, else ./gpu-check
#   tests/gpu/check.sh FOLDER --device cpu --small      the same steps without a GPU, to see that they run
# PYTHON is a Python with the package's requirements. Exits with 1 where a check failed.
set -euo pipefail
out=${OUT:-gpu-check}
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then out=$1; shift; fi
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
exec timeout --kill-after=5 470 "${PYTHON:-python3}" -m tests.gpu.check --out "$out" "$@"
