"""How much faster a slow environment is stepped in processes (``env.workers``); see docs/environments.md.

    python benchmarks/workers.py --out results/environments/workers.json

Steps an environment that sleeps for so many milliseconds, one stream in this process and then `--workers` streams in
as many processes, in turns, and writes env_steps per second of both with their ratio. What sleeps needs no processor:
it stands for a simulator that waits for a device, a network or a game.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from reverie.envs.make import make_env
from reverie.envs.stepping import Stepping


class Sleeper(gymnasium.Env[np.ndarray, np.int64]):
    """An image or a vector of random numbers after `milliseconds`; episodes of 100 env_steps."""

    def __init__(self, milliseconds: float = 20.0, image: bool = False) -> None:
        shape, dtype = ((64, 64, 3), np.uint8) if image else ((8,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255 if image else 1, shape, dtype)
        self.action_space = gymnasium.spaces.Discrete(4)
        self.milliseconds = milliseconds

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.time = 0
        return self.see(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Sleep."""
        time.sleep(self.milliseconds / 1000)
        self.time += 1
        return self.see(), 1.0, False, self.time >= 100, {}

    def see(self) -> np.ndarray:
        """Something new."""
        space = self.observation_space
        numbers = self.np_random.random(space.shape, np.float32)
        return numbers if space.dtype == np.float32 else (255 * numbers).astype(np.uint8)


def rate(num_envs: int, workers: int, seconds: float, **options: Any) -> float:
    """env_steps per second, over all streams."""
    env = make_env("benchmarks.workers:Sleeper", num_envs=num_envs, stepping=Stepping(workers=workers), **options)
    env.reset(0)
    for _ in range(5):
        env.step(np.zeros(num_envs, np.int64))
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        env.step(np.zeros(num_envs, np.int64))
        steps += num_envs
    taken = time.perf_counter() - began
    env.close()
    return steps / taken


def main() -> None:
    """Measure in turns and write a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--milliseconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--image", action="store_true", help="observations of 64x64x3 bytes instead of 8 numbers")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    options = {"milliseconds": asked.milliseconds, "image": asked.image}
    turns = []
    for _ in range(asked.turns):
        one = rate(1, 0, asked.seconds, **options)
        many = rate(asked.workers, asked.workers, asked.seconds, **options)
        turns.append({"one": round(one, 2), "many": round(many, 2), "ratio": round(many / one, 3)})
        print(turns[-1], flush=True)
    result = {
        **{"milliseconds": asked.milliseconds, "image": asked.image, "workers": asked.workers, "turns": turns},
        "ratio_median": statistics.median(turn["ratio"] for turn in turns),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # the environment is named by its module
    main()
