"""DQN end to end on Pong: env_steps per second of one environment with an update on 32 rows every 4 env_steps.

    python -m benchmarks.dqn_pong --threads 2 --out results/performance/dqn_pong.json

The paper's network and loss (84x84x4, Nature's CNN, one-step targets, Adam) in a run as `reverie train` has it: rows go
to the replay and to disk, metrics are logged. Speeds are those that the run logs, from a while after learning began.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.timing import surroundings, write
from reverie.overrides import apply
from reverie.presets import make_config
from reverie.run.local import train

SETTINGS = {
    "env.num_envs": "1",
    "env.options.full_actions": "false",
    "agent.n_step": "1",
    "agent.double": "false",
    "replay.batch": "32",
    "replay.budget": "500000000",
    "run.prefill": "1000",
    "run.train_ratio": "8",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--env-steps", type=int, default=1000, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = SETTINGS | {"run.threads": str(options.threads), "run.log_every": str(options.env_steps)}
    config = apply(make_config("dqn", "cpu", "ALE/Pong-v5"), settings)
    begin = config.run.prefill + options.env_steps
    total = begin + options.rounds * options.env_steps
    config = apply(config, {"run.env_steps": str(total), "run.eval_episodes": "1"})
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "speed/env_steps_per_s" in line and line["env_steps"] > begin]
    rates = [line["speed/env_steps_per_s"] for line in measured]
    document = {
        "what": "DQN on ALE/Pong-v5, one environment, 32 rows every 4 env_steps, 84x84x4, Nature CNN, float32",
        "env_steps_per_s_median": median(rates),
        "env_steps_per_s": rates,
        "learner_steps_per_s": [line["speed/learner_steps_per_s"] for line in measured],
    }
    write(document | surroundings(), options.out)


if __name__ == "__main__":
    main()
