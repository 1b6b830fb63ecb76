#!/usr/bin/env bash
# What is to be measured where there is a GPU, shortest first; every part keeps its results when it ends.
#   tests      an update is that of the CPU, and a recorded one is the update
#   updates    every world model at one size, DreamerV2 at two, R2D2 at the published size: recorded and not
#   pong       DreamerV2's `atari100k` on Pong: env_steps/s of a few thousand decisions, recorded, and acting beside learning
# OUT=results/performance/gpu bash benchmarks/gpu.sh [part ...]
set -euo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-results/performance/gpu}"
mkdir -p "$OUT"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$OUT/card.txt"
git rev-parse HEAD 2>/dev/null | tee "$OUT/commit.txt" || true

on_gpu=(--device cuda --precision bfloat16)
for part in "${@:-tests updates pong}"; do
  for name in $part; do
    case "$name" in
      tests) python -m pytest -q -n 4 tests/agents/test_gpu.py tests/agents/test_capture.py tests/data/test_replay.py | tee "$OUT/tests.txt" ;;
      updates)
        for kind in eager capture; do
          recorded=()
          [ "$kind" = capture ] && recorded=(--capture)
          python -m benchmarks.learner "${on_gpu[@]}" "${recorded[@]}" --out "$OUT/learner-$kind.json"
          python -m benchmarks.learner --published "${on_gpu[@]}" "${recorded[@]}" --out "$OUT/learner-published-$kind.json"
          python -m benchmarks.r2d2_learner --batch 64 "${on_gpu[@]}" "${recorded[@]}" --repeats 20 --out "$OUT/r2d2-$kind.json"
          python -m benchmarks.dreamers "${on_gpu[@]}" "${recorded[@]}" --out "$OUT/dreamers-$kind.json"
        done
        ;;
      pong)
        for overlap in 0 1; do
          run="runs/gpu-pong-overlap$overlap"
          python -m reverie.cli train dreamerv2 --preset atari100k --env ALE/Pong-v5 --device cuda --logdir "$run" \
            --env_steps 4000 --run.capture true --run.overlap "$overlap" --run.eval_episodes 0
          python -m reverie.cli status "$run" --json >"$OUT/pong-overlap$overlap.json"
          cp "$run/metrics.jsonl" "$OUT/pong-overlap$overlap.jsonl"
        done
        ;;
      *) echo "no such part: $name" >&2 && exit 2 ;;
    esac
  done
done
