"""Small sizes of Rainbow and IQN for two CPU cores: DQN's, with another loss. Every number here is ours.

The supports of Rainbow's distributions are the returns that are possible: with rewards of one per env_step and gamma
0.99 at most 100 (vectors); a single reward of one (toy games); clipped rewards as on Atari (pixels).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from reverie.agents.dqn import DQNConfig
from reverie.agents.iqn import IQNConfig
from reverie.agents.rainbow import RainbowConfig
from reverie.config import Config
from reverie.presets.value_cpu import PIXELS, dqn


def _shared(config: DQNConfig, *but: str) -> dict[str, Any]:
    """DQN's settings by name, but for these."""
    return {field.name: getattr(config, field.name) for field in fields(DQNConfig) if field.name not in but}


def rainbow(env: str) -> Config:
    """Rainbow with small networks for two CPU cores: vectors, toy games and pixels."""
    base = dqn(env)
    limit = 10.0 if base.env.id.startswith(PIXELS) else 2.0 if base.env.id.startswith("toy/") else 100.0
    run = base.run
    updates = ((run.env_steps or run.frames // 4) - run.prefill) * run.train_ratio / base.replay.batch
    agent = RainbowConfig(
        **_shared(base.agent, "n_step", "double", "dueling", "beta_over"),
        v_min=-limit,
        v_max=limit,
        beta_over=int(updates),
    )
    return replace(
        base, name="rainbow", agent=agent, replay=replace(base.replay, selector="prioritised", alpha=0.5), run=run
    )


def iqn(env: str) -> Config:
    """IQN with small networks for two CPU cores: vectors, toy games and pixels; 8 levels where the paper has 64."""
    base = dqn(env)
    agent = IQNConfig(**_shared(base.agent), levels=8, target_levels=8, acting_levels=8, cosines=32)
    return replace(base, name="iqn", agent=agent)


PRESETS = {("rainbow", "cpu"): rainbow, ("iqn", "cpu"): iqn}
