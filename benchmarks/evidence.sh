# What scripts of learning evidence share, to be sourced from the repository's root: seeds, and one comparison each.
# OUT: folder of the results. SEEDS, JOBS, FRAMES: of all runs; without FRAMES a run is as long as its preset says.
OUT="${OUT:-results/learning}"
read -ra seeds <<<"${SEEDS:-100 101 102 103 104}"

learn() { # agent, environment, name of the result, further options
  local agent="$1" env="$2" name="$3"
  shift 3
  python benchmarks/learning.py --agent "$agent" --env "$env" --seeds "${seeds[@]}" --jobs "${JOBS:-1}" \
    --out "$OUT/$name" ${FRAMES:+--frames "$FRAMES"} "$@"
}
