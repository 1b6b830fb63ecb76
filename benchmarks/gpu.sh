#!/usr/bin/env bash
# What is to be measured where there is a GPU, shortest first; every part keeps its results when it ends.
#   tests      an update is that of the CPU, and a recorded one is the update
#   updates    every world model at one size, DreamerV2 at two, R2D2 at the published size: recorded and not
#   pong       DreamerV2's `atari100k` on Pong: env_steps/s of a few thousand decisions, recorded, and acting beside learning
# A part that fails is told and ends none of the others. OUT=results/performance/gpu bash benchmarks/gpu.sh [part ...]
set -euo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-results/performance/gpu}"
mkdir -p "$OUT"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$OUT/card.txt"
git rev-parse HEAD 2>/dev/null | tee "$OUT/commit.txt" || true
python() { command "${PYTHON:-python}" "$@"; }
failed=""

on_gpu=(--device cuda --precision bfloat16)
with_gpu=() # files with tests that are skipped without one
while read -r file; do with_gpu+=("$file"); done < <(grep -rlE "cuda.is_available|on_gpu" tests --include="test_*.py" | sort)
for part in "${@:-tests updates pong}"; do
  for name in $part; do
    case "$name" in
      tests) python -m pytest -q -n 4 "${with_gpu[@]}" | tee "$OUT/tests.txt" || failed="$failed tests" ;;
      updates)
        for kind in eager capture; do
          recorded=()
          [ "$kind" = capture ] && recorded=(--capture)
          same=("${on_gpu[@]}" "${recorded[@]}")
          python -m benchmarks.learner "${same[@]}" --out "$OUT/learner-$kind.json" || failed="$failed learner-$kind"
          python -m benchmarks.learner --published "${same[@]}" --out "$OUT/learner-published-$kind.json" ||
            failed="$failed learner-published-$kind"
          python -m benchmarks.r2d2_learner --batch 64 "${same[@]}" --repeats 20 --out "$OUT/r2d2-$kind.json" ||
            failed="$failed r2d2-$kind"
          python -m benchmarks.dreamers "${same[@]}" --out "$OUT/dreamers-$kind.json" || failed="$failed dreamers-$kind"
        done
        ;;
      pong)
        for overlap in 0 1; do
          run="runs/gpu-pong-overlap$overlap"
          if python -m reverie.cli train dreamerv2 --preset atari100k --env ALE/Pong-v5 --device cuda --logdir "$run" \
            --env_steps 4000 --run.capture true --run.overlap "$overlap" --run.eval_episodes 0; then
            python -m reverie.cli status "$run" --json >"$OUT/pong-overlap$overlap.json"
            cp "$run/metrics.jsonl" "$OUT/pong-overlap$overlap.jsonl"
          else
            failed="$failed pong-overlap$overlap"
          fi
        done
        ;;
      *) echo "no such part: $name" >&2 && exit 2 ;;
    esac
  done
done
[ -z "$failed" ] || { echo "failed:$failed" >&2 && exit 1; }
