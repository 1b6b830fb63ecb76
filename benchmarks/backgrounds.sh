#!/usr/bin/env bash
# Six agents before a still and before a moving background, at equal frames, on seeds that nobody tuned on: models that
# are weighed (HarmonyDream), that tell pictures (DreamerV2, Denoised MDP), that tell rewards (TD-MPC, TD-MPC2) or are
# held to little information (RePo). toy/noisy-catch with one continuous action, in 40x40 pixels; 19.5 is the best.
#   clean   ball and paddle on black
#   noisy   before plaids that move, which are nearly all of a picture's bits
# Each run is 5 to 40 minutes of one core: FRAMES=20000 SEEDS=100,101,102,103,104 JOBS=2 bash benchmarks/backgrounds.sh [task ...]
# AGENTS="tdmpc2 repo" runs these alone; what is complete in WORK is not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-results/backgrounds}"

variants=()
for agent in ${AGENTS:-harmonydream dreamerv2 denoised repo tdmpc tdmpc2}; do
  case "$agent" in
    tdmpc | tdmpc2) variants+=(--variant "$agent $agent preset=cpu") ;;
    *) variants+=(--variant "$agent $agent preset=cpu-toy") ;;
  esac
done

for task in "${@:-clean noisy}"; do
  for name in $task; do
    case "$name" in
      clean) strength=0.0 ;;
      noisy) strength=0.9 ;;
      *) echo "no such task: $name" >&2 && exit 2 ;;
    esac
    reverie compare --env toy/noisy-catch --seeds "${SEEDS:-100,101,102,103,104}" --jobs "${JOBS:-1}" \
      --frames "${FRAMES:-20000}" --set env.options.continuous=true --set env.options.size=40 \
      --set "env.options.strength=$strength" --work "${WORK:-runs/backgrounds}/$name" --out "$OUT/$name" "${variants[@]}"
  done
done
