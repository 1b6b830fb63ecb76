"""Rainbow: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published one.

The supports of its distributions are the returns that are possible: with rewards of one per env_step and gamma 0.99 at
most 100 (vectors), a single reward of one (toy games), clipped rewards as on Atari (pixels). Where none is negative,
half of such a support is empty: ``--agent.v_min 0``, as CartPole was measured with.
"""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.rainbow import RainbowConfig
from reverie.config import Config
from reverie.presets import dqn
from reverie.presets.parts import by_kind, inherited, prioritised
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """Rainbow with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def vectors(task: Task) -> Config:
    """Rainbow on vectors, for two CPU cores: 10 875 updates, 10 steps ahead, epsilon on top of the noise, sigma 0.1.

    Values from -100 to 100; where no reward is negative set ``agent.v_min=0``, as for CartPole.
    """
    return _rainbow(dqn.fewer_updates(task, batch=64), limit=100.0, explore_too=True, sigma=0.1)


def toy(task: Task) -> Config:
    """Rainbow on images of a few cells, for two CPU cores: DQN's numbers, values from -2 to 2."""
    return _rainbow(dqn.toy(task), limit=2.0)


def pixels(task: Task) -> Config:
    """Rainbow on pixels, for two CPU cores: DQN's numbers, values from -10 to 10."""
    return _rainbow(dqn.pixels(task), limit=10.0)


def _rainbow(base: Config, limit: float, explore_too: bool = False, sigma: float = 0.5) -> Config:
    base = prioritised(base)
    settings = inherited(base.agent, "double", "dueling")
    agent = RainbowConfig(**settings, v_min=-limit, v_max=limit, explore_too=explore_too, sigma=sigma)
    return replace(base, name="rainbow", agent=agent)


def published(task: Task) -> Config:
    """DQN's environment, replay and length of 200M frames, with games of 30 minutes (108 000 frames)."""
    base = dqn.atari(task)
    return replace(base, env=task.default("ALE/Pong-v5").env(1, "atari-dqn2015", {"max_frames": 108_000}))


def atari(task: Task) -> Config:
    """Rainbow on 200M frames of Atari with all six parts (Hessel et al. 2018, table 1).

    Adam with lr 6.25e-5 and eps 1.5e-4; 3 steps; 51 atoms from -10 to 10; sigma 0.5 and no epsilon; a target every
    32 000 frames (8000 env_steps, 2000 updates); training from 80 000 frames (20 000 env_steps) on; priority exponent
    0.5, beta from 0.4 to 1 over the run. Everything else is DQN's: a replay of a million env_steps, minibatches of 32
    every 4 env_steps, gamma 0.99, the sign of rewards, 4 frames, a lost life ends an episode. Gradients are clipped at
    a norm of 10 as in Wang et al. 2016; the table names none.

    Dopamine's agent called Rainbow is less, n-step, prioritised replay and C51; here that is ``agent.double = false
    agent.dueling = false agent.noisy = false``.
    """
    base = prioritised(published(task))
    run = replace(base.run, prefill=20_000)
    return replace(base, name="rainbow", agent=RainbowConfig(beta=0.4, beta_end=1.0, beta_over=1.0), run=run)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
}
