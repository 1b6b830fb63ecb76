#!/usr/bin/env bash
# Evidence for both DreamerV3s and for HarmonyDream over them, with crippled twins (docs/dreamerv3.md). One preset, `cpu`,
# one set of numbers for all environments, and seeds that nobody tuned on.
#   catch      toy/catch from 32x32 pixels: random -0.75, best 1.0; harmony over both too
#   cartpole   CartPole-v1: best 500              pendulum   Pendulum-v1: random -1208
#   control    dmc/cartpole-swingup from 32x32 pixels drawn smoothly: random 132, best 1000
#   twins      catch with one wire cut: no reward is ever told, to the model or (now) to the critic; they must fail
# On catch dreamerv3's preset was changed after its seeds 100 and 105 to 109: its committed result has 110 to 114;
# dreamerv3-2023's after its seed 100: 105 to 109.
# JOBS=2 SEEDS="100 101 102 103 104" bash benchmarks/dreamerv3.sh [task ...]
set -euo pipefail
cd "$(dirname "$0")/.."
source benchmarks/evidence.sh

for task in "${@:-catch cartpole pendulum control twins}"; do
  for name in $task; do
    for agent in dreamerv3-2023 dreamerv3; do
      case "$name" in
        catch)
          learn "$agent" toy/catch "$agent-catch"
          learn harmonydream toy/catch "harmony-$agent-catch" --variant "harmony-$agent agent.base=$agent"
          ;;
        cartpole) learn "$agent" CartPole-v1 "$agent-cartpole" ;;
        pendulum) learn "$agent" Pendulum-v1 "$agent-pendulum" ;;
        control) learn "$agent" dmc/cartpole-swingup "$agent-swingup" ;;
        twins)
          cut=(agent.reward_scale=0)
          [ "$agent" = dreamerv3 ] && cut+=(agent.replay_scale=0)
          learn "$agent" toy/catch "$agent-catch-no-reward" --variant "no-reward ${cut[*]}"
          ;;
        *) echo "no such task: $name" >&2 && exit 2 ;;
      esac
    done
  done
done
