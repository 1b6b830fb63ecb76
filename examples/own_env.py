"""An environment of one's own: a factory that returns a `gymnasium.Env`, checked, learned and played.

reverie check-env own_env:make                              in this folder
reverie train dqn --env own_env:make --env.options.size 5
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    """A corridor whose light is at one of its ends: walk there, and stay until the time is over."""

    def __init__(self, size: int = 7) -> None:
        self.size = size
        self.observation_space = spaces.Dict(
            {"place": spaces.Box(0, 1, (size,), np.float32), "light": spaces.Discrete(2)}
        )
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)  # all randomness from here: then episodes can be repeated and runs resume exactly
        self.light, self.place, self.time = int(self.np_random.integers(2)), self.size // 2, 0
        return self._look(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = int(np.clip(self.place + (1 if action else -1), 0, self.size - 1))
        self.time += 1
        reached = self.place == (self.size - 1 if self.light else 0)
        # No end of its own: a time limit is `truncated`, and what would have come after it is bootstrapped.
        return self._look(), float(reached), False, self.time >= 2 * self.size, {}

    def _look(self) -> dict[str, Any]:
        return {"place": np.eye(self.size, dtype=np.float32)[self.place], "light": self.light}


def make(size: int = 7) -> gymnasium.Env:
    """The factory that ``own_env:make`` names; its arguments are options."""
    return Corridor(size)


def main(run_dir: str = "runs/corridor", env_steps: int = 4000) -> float:
    """Check it, learn it, and return the mean score of 20 episodes; the best possible is 12."""
    import reverie
    from reverie.envs.check import check_env
    from reverie.overrides import apply

    report = check_env("own_env:make", env_steps=200, size=7)
    assert report.ok, report.lines()
    config = reverie.make_config("dqn", "cpu", "own_env:make")
    config = apply(config, {"run.env_steps": env_steps, "run.prefill": 500, "run.eval_episodes": 0})
    reverie.train(config, run_dir)
    score: float = reverie.evaluate(run_dir, episodes=20)["score"]
    print(f"mean score {score:.2f}; best possible 12, at random 1.5")
    return score


if __name__ == "__main__":
    main()
