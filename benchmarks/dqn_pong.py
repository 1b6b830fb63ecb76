"""DQN end to end on Pong: env_steps per second of one environment with an update on 32 rows every 4 env_steps.

    python -m benchmarks.dqn_pong --threads 2 --out results/performance/dqn_pong.json

The paper's network and loss (84x84x4, Nature's CNN, one-step targets, Adam) in a run as `reverie train` has it: rows go
to the replay and to disk, metrics are logged. Speeds are those that the run logs, from a while after learning began.
The floor is what the arithmetic alone allows, timed before the run: the loss's forward and backward pass of the network
on 32 rows, the target's forward pass, Adam, and four decisions, without environment, replay or anything else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from gymnasium import spaces

from benchmarks.timing import surroundings, write
from reverie.agents.dqn import DQN, DQNConfig
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.ops.losses import huber
from reverie.overrides import apply
from reverie.presets import make_config
from reverie.run.allocator import keep_freed_memory
from reverie.run.train import train

SETTINGS = {
    "env.num_envs": "1",
    "env.options.full_actions": "false",
    "agent.n_step": "1",
    "agent.double": "false",
    "replay.batch": "32",
    "replay.store.budget": "500000000",
    "run.prefill": "1000",
    "run.train_ratio": "8",
}


def floor(threads: int, seconds: float = 5.0) -> float:
    """env_steps per second if there were nothing but the networks."""
    torch.set_num_threads(threads)
    env = EnvSpec("floor", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(6))
    agent = DQN(DQNConfig(), env)
    learner = agent.learner(agent.policy(), agent.windows(SequenceSpec()))
    online, older, optimiser = learner.policy.network, learner.target.network, learner.optimisers["q"]
    images = torch.randint(0, 256, (2, 32, 84, 84, 4), dtype=torch.uint8)
    none = torch.zeros(32, 0)

    def update() -> None:
        with torch.no_grad():
            target = older.head(older.torso({"image": images[1]}), none).amax(-1)
        loss = huber(online.head(online.torso({"image": images[0]}), none)[:, 0], target).mean()
        loss.backward()
        optimiser.step()
        with torch.inference_mode():
            for row in range(4):
                online.head(online.torso({"image": images[0, row : row + 1]}), none[:1])

    update()
    times = []
    while sum(times) < seconds:
        began = time.perf_counter()
        update()
        times.append(time.perf_counter() - began)
    return 4 / median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--env-steps", type=int, default=1000, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    bound = floor(options.threads)
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
        "floor_env_steps_per_s": bound,
        "learner_steps_per_s": [line["speed/learner_steps_per_s"] for line in measured],
    }
    write(document | surroundings(), options.out)


if __name__ == "__main__":
    main()
