#!/usr/bin/env bash
# What balance does inside a world model, on toy/noisy-catch (docs/harmony.md). Fixed weights are written as
# observation, reward, dynamics; they are 1 unless a variant's name says otherwise. Runs are shared between findings.
#   1 reward-weight   score against the weight of the reward
#   2 hallucination   rewards that the model makes up where observations dominate
#   3 observation-0   no learning of observations at all
#   4 balancers       fixed weights, harmony in its three forms, and its rivals
#   5 twice           harmony for twice as long, because its scales move slowly
# Each run is minutes of one core: FRAMES=16000 SEEDS=3 JOBS=2 bash benchmarks/harmony.sh [finding ...]
# Over DreamerV3, which learns more often: BASE=dreamerv3 FRAMES=6000 bash benchmarks/harmony.sh reward-weight ...
set -euo pipefail
cd "$(dirname "$0")/.."
BASE="${BASE:-dreamerv2}"
case "$BASE" in
  dreamerv2) PLACE=harmony ;;
  *) PLACE="harmony/$BASE" ;;
esac
OUT="${OUT:-results/$PLACE}"
WORK="${WORK:-runs/$PLACE}"
CONTEXT=2      # of 8 rows: the ball has fallen by one cell
THRESHOLD=0.86 # rewards are 3, 2.14, 1.29, 0.43 and their negatives: those at one column from zero count as none

compare() { # name of the finding, variants
  local name="$1"
  shift
  reverie compare --env toy/noisy-catch --preset cpu --frames "${FRAMES:-16000}" --seeds "${SEEDS:-3}" \
    --run.prefill 800 --jobs "${JOBS:-1}" --report "$CONTEXT" --work "$WORK" --out "$OUT/$name" "${@}"
}

ones="agent.observation_scale=1 agent.reward_scale=1 agent.kl_scale=1"
[ "$BASE" = dreamerv3 ] && ones="${ones% *}" # its KL's weights, 1 and 0.1, are those of its own kl_scale
over="harmonydream agent.base=$BASE" # for all: a harmonised preset may have settings that its base's has not
fixed="$over agent.balance=fixed $ones"
weights=()
for weight in 1 10 100 1000; do
  weights+=(--variant "reward-$weight $fixed agent.reward_scale=$weight")
done
balancers=(--variant "harmony $over")
for kind in harmony-unrectified harmony-closed uw dwa nashmtl; do
  balancers+=(--variant "$kind $over agent.balance=$kind")
done

for finding in "${@:-reward-weight hallucination observation-0 balancers twice}"; do
  for name in $finding; do
    case "$name" in
      reward-weight) compare "$name" "${weights[@]}" ;;
      hallucination)
        compare "$name" "${weights[@]:0:2}" "${weights[@]:4:2}" "${balancers[@]:0:2}" --threshold "$THRESHOLD"
        for variant in reward-1 reward-100 harmony; do
          reverie report "$WORK/$variant-0" --random-play --context "$CONTEXT" --threshold "$THRESHOLD" --gif \
            --out "$OUT/$name/$variant-0"
          reverie plot --weights "$WORK/$variant-0" --out "$OUT/weights-$variant.png"
        done
        ;;
      observation-0)
        compare "$name" "${weights[@]:0:2}" "${weights[@]:4:2}" \
          --variant "observation-0 $fixed agent.observation_scale=0" \
          --variant "observation-0-reward-100 $fixed agent.observation_scale=0 agent.reward_scale=100"
        ;;
      balancers) compare "$name" "${weights[@]}" "${balancers[@]}" ;;
      twice) FRAMES=32000 compare "$name" --variant "harmony-twice $over" ;;
      *) echo "unknown finding $name" >&2 && exit 2 ;;
    esac
  done
done
