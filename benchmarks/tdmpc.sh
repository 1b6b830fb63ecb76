#!/usr/bin/env bash
# Evidence for TD-MPC and TD-MPC2 (docs/tdmpc.md, docs/tdmpc2.md) on seeds that nobody tuned on, and their crippled twins.
#   pendulum   Pendulum-v1 from states: random -1208
#   twins      the same with nothing learned of values; with nothing that ties latents to what comes next; and acting
#              by the prior alone
#   swingup    dmc/cartpole-swingup from states, every action eight times (TD-MPC's own repeat there): random 132, at
#              most 1000
#   swingup-twins  those twins there
# AGENTS="tdmpc tdmpc2" JOBS=1 SEEDS="100 101 102 103 104" bash benchmarks/tdmpc.sh [task ...]
set -euo pipefail
cd "$(dirname "$0")/.."
source benchmarks/evidence.sh

states=(env.protocol=dmc-proprio 'env.options={"action_repeat": 8}')
twins=(--variant "no-values agent.value_scale=0" --variant "no-consistency agent.consistency_scale=0"
  --variant "no-planner agent.mpc=false")

for task in "${@:-pendulum twins swingup swingup-twins}"; do
  for name in $task; do
    for agent in ${AGENTS:-tdmpc tdmpc2}; do
      case "$name" in
        pendulum) learn "$agent" Pendulum-v1 "$agent-pendulum" ;;
        twins) learn "$agent" Pendulum-v1 "$agent-pendulum-twins" "${twins[@]}" ;;
        swingup) learn "$agent" dmc/cartpole-swingup "$agent-swingup" --set "${states[@]}" ;;
        swingup-twins)
          learn "$agent" dmc/cartpole-swingup "$agent-swingup-twins" --set "${states[@]}" "${twins[@]}"
          ;;
        *) echo "no such task: $name" >&2 && exit 2 ;;
      esac
    done
  done
done
