"""The score in the dream: what a policy earns in its own world model, beside what it earns in the world.

Where the world pays less than the dream, the model is wrong in a way that the policy has found. Both are played by the
same evaluator, greedily, with the same kind of rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.data.rows import Rows
from reverie.envs.env import Step, VectorEnv, shut
from reverie.ops.transforms import reward_transform
from reverie.play.dream_env import DreamEnv, Ends
from reverie.play.envs import build_world, carried_of
from reverie.play.model import LoadedModel, first_states, load_model
from reverie.run.build import derive
from reverie.run.roles import Evaluator

STARTS = 64
"""first rows of real episodes that dreamed episodes begin from, at least"""


class TransformedRewards(VectorEnv):
    """An environment that pays f(r), for a reward transform f by its name; scores are sums of that.

    Where a life is an episode it is one here too: what the model knows as an end is the end of a life.
    """

    def __init__(self, env: VectorEnv, transform: str) -> None:
        self.env, self.spec, self.num_envs = env, replace(env.spec, lives=False), env.num_envs
        self._function = reward_transform(transform)

    def reset(self, seed: int) -> Rows:
        """First rows of fresh episodes."""
        return self._transform(self.env.reset(seed))

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step, with transformed rewards."""
        step = self.env.step(action)
        ends = None if step.ends is None else self._transform(step.ends)
        return Step(self._transform(step.rows), ends, step.streams, step.episode_info, step.lost)

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()

    def _transform(self, rows: Rows) -> Rows:
        return rows | {"reward": self._function(torch.from_numpy(rows["reward"])).numpy()}


def score_in_dream(
    run_dir: Path, *, episodes: int = 10, seed: int = 0, device: str = "cpu", checkpoint: str = "latest"
) -> dict[str, Any]:
    """Returns of `episodes` dreamed and `episodes` real episodes of a run's policy, and the gap between them.

    Dreams begin from the model's states at first rows of real episodes; they end where the model gives going on a
    chance below one half, or at the length of the longest of the real episodes. In the result, ``unit`` is that of all
    these returns: ``reward``, or what the model learns in its place.
    Raises UserError if the agent has no world model, or one that says nothing about observations.
    """
    loaded, carried = load_model(run_dir, device, seed, checkpoint), carried_of(run_dir, checkpoint)
    config, unit = loaded.config, loaded.model.reward.unit
    streams = min(config.run.eval_envs, episodes)
    try:
        starts = first_states(loaded, max(STARTS, episodes), seed)
        # Made before anything is played: a model that cannot tell is refused at once.
        dream = DreamEnv(loaded.model, loaded.env.spec, starts, streams)
    finally:
        shut(loaded.env)
    # Paid as the model learns rewards: transformed, after whatever wrappers make of them.
    real_env = TransformedRewards(build_world(config, streams, carried), loaded.model.reward.transform)
    real = _evaluation(loaded, real_env, episodes, derive(seed, "evaluation"))
    dream.ends = Ends(length=max(real["lengths"]))
    dreamed = _evaluation(loaded, dream, episodes, derive(seed, "dreamed evaluation"))
    return {
        "unit": unit,
        "gap": dreamed["score"] - real["score"],
        "starts": len(next(iter(starts.values()))),
        "longest": dream.ends.length,
        "dream": dreamed,
        "real": real,
    }


def _evaluation(loaded: LoadedModel, env: VectorEnv, episodes: int, seed: int) -> dict[str, Any]:
    options = loaded.config.run
    try:
        results = Evaluator(env, loaded.policy, episodes, seed, options.eval_limit, options.nonfinite).run()
    finally:
        shut(env)
    scores, lengths = results["scores"], results["lengths"]
    return {
        "score": float(np.mean(scores)),
        "score_std": float(np.std(scores)),
        "length": float(np.mean(lengths)),
        "scores": scores,
        "lengths": lengths,
    }
