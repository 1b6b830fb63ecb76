"""Atari: Rainbow and IQN as published, each number with its source."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.iqn import IQNConfig
from reverie.agents.rainbow import RainbowConfig
from reverie.config import Config
from reverie.presets.value_atari import dqn


def _published(env: str) -> Config:
    """DQN's environment, replay and length of 200M frames, with games of 30 minutes (108 000 frames) as both have."""
    base = dqn(env)
    options = {"max_frames": 108_000} if base.env.protocol == "atari-dqn2015" else {}
    return replace(base, env=replace(base.env, options=options))


def rainbow(env: str) -> Config:
    """Rainbow on 200M frames of Atari with all six parts (Hessel et al. 2018, table 1).

    Adam with lr 6.25e-5 and eps 1.5e-4; 3 steps; 51 atoms from -10 to 10; sigma 0.5 and no epsilon; a target every
    32 000 frames (8000 env_steps, 2000 updates); training from 80 000 frames (20 000 env_steps) on; priority exponent
    0.5, beta from 0.4 to 1 over the run (50M - 20 000 env_steps, one update each 4). Everything else is DQN's: a replay
    of a million env_steps, minibatches of 32 every 4 env_steps, gamma 0.99, the sign of rewards, 4 frames, a lost life
    ends an episode. Gradients are clipped at a norm of 10 as in Wang et al. 2016; the table names none.

    Dopamine's agent called Rainbow is less, n-step, prioritised replay and C51; here that is ``agent.double = false
    agent.dueling = false agent.noisy = false``.
    """
    base = _published(env)
    run = replace(base.run, prefill=20_000)
    return replace(
        base,
        name="rainbow",
        agent=RainbowConfig(beta=0.4, beta_end=1.0, beta_over=(run.frames // 4 - run.prefill) // 4),
        replay=replace(base.replay, selector="prioritised", alpha=0.5),
        run=run,
    )


def iqn(env: str) -> Config:
    """IQN on 200M frames of Atari (Dabney et al. 2018, section 4, which takes what it does not say from QR-DQN).

    N = N' = 64 and K = 32 levels, 64 cosines, kappa 1, one step. Adam with lr 5e-5 and eps 0.01 / 32, gradients not
    clipped; a target every 10 000 env_steps (2500 updates); epsilon from 1 to 0.01 over a million env_steps after the
    first 50 000, 0.001 in evaluation. Everything else is DQN's. Dopamine's IQN has 3 steps instead.
    """
    return replace(_published(env), name="iqn", agent=IQNConfig())


PRESETS = {("rainbow", "atari"): rainbow, ("iqn", "atari"): iqn}
