"""Small sizes of Rainbow and IQN for two CPU cores: DQN's, with another loss. Every number here is ours.

An update costs more than DQN's, so on vectors there are fewer of them (12 200) and of half the width. CartPole is not
solved with that: Rainbow ends at 439, 421 and 287 of 500 (seeds 0, 1, 2; 1.5 to 3.4 minutes), IQN at 288 (seed 0;
335 with DQN's width and 19 500 updates, so that size is not what it lacks).

The supports of Rainbow's distributions are the returns that are possible: with rewards of one per env_step and gamma
0.99 at most 100 (vectors); a single reward of one (toy games, but toy/count, which pays more and wants a wider
support); clipped rewards as on Atari (pixels).
"""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.iqn import IQNConfig
from reverie.agents.rainbow import RainbowConfig
from reverie.config import Config
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets.parts import PIXELS, inherited
from reverie.presets.value_cpu import dqn


def _base(env: str) -> Config:
    """DQN's for toy games and pixels; for vectors settings of their own, which CartPole was measured with."""
    base = dqn(env)
    if base.env.id.startswith((*PIXELS, "toy/")):
        return base
    agent = replace(
        base.agent,
        torso=TorsoConfig(layers=1, units=128),
        hidden=128,
        target_every=50,
        opt=OptimConfig(lr=1e-3, lr_over=12_200, eps=1e-5, clip=10.0, shrink=0.0),
    )
    return replace(base, agent=agent, run=replace(base.run, env_steps=40_000, train_ratio=20.0))


def rainbow(env: str) -> Config:
    """Rainbow with small networks for two CPU cores: vectors, toy games and pixels."""
    base = _base(env)
    limit = 10.0 if base.env.id.startswith(PIXELS) else 2.0 if base.env.id.startswith("toy/") else 100.0
    run = base.run
    env_steps = run.env_steps or run.frames // 4  # the action repeat of Atari
    updates = (env_steps - run.prefill) * run.train_ratio / base.replay.batch
    agent = RainbowConfig(
        **inherited(base.agent, "n_step", "double", "dueling", "beta_over"),
        v_min=-limit,
        v_max=limit,
        beta_over=int(updates),
    )
    return replace(
        base, name="rainbow", agent=agent, replay=replace(base.replay, selector="prioritised", alpha=0.5), run=run
    )


def iqn(env: str) -> Config:
    """IQN with small networks for two CPU cores: vectors, toy games and pixels; 8 levels where the paper has 64."""
    base = _base(env)
    agent = IQNConfig(**inherited(base.agent), levels=8, target_levels=8, acting_levels=8, cosines=32)
    return replace(base, name="iqn", agent=agent)


PRESETS = {("rainbow", "cpu"): rainbow, ("iqn", "cpu"): iqn}
