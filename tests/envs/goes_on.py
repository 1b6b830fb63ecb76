"""An interrupted stream goes on exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reverie.data.rows import Rows
from reverie.envs.env import VectorEnv


def goes_on_exactly(make: Callable[[], VectorEnv], env_steps: int) -> Rows:
    """Play `env_steps` at random, save, and hold as many more against those of another one that was loaded.

    Returns the first half, field -> [env_steps, N, ...].
    """
    env, other = make(), make()
    shape = (2 * env_steps, env.num_envs, *(env.spec.action.shape or ()))
    played = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    env.reset(7)
    rows = [env.step(action).rows for action in played[:env_steps]]
    other.load_state_dict(env.state_dict())
    for action in played[env_steps:]:
        a, b = env.step(action).rows, other.step(action).rows
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    for each in (env, other):
        each.close()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
