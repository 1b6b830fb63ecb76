"""DeepMind Control: DreamerV2 from pixels and from vectors, as its official code released it."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig


def vision(env: str) -> Config:
    """DreamerV2 on the control suite from 64x64 pixels (github.com/danijar/dreamerv2, configs.yaml: dmc_vision).

    deter = hidden = 200 with categorical latents, free nats 1, no discount head, raw rewards, dynamics gradients,
    action repeat 2, 1000 random env_steps, 100 updates before the first decision, one update per 5 env_steps.
    """
    agent = DreamerV2Config(
        rssm=RSSMConfig(deter=200, hidden=200),
        kl_scale=1.0,
        kl_free=1.0,
        predict_discount=False,
        reward_transform="identity",
        grad_heads=("decoder", "reward"),
        gamma=0.99,
        entropy=1e-4,
        model_opt=OptimConfig(lr=3e-4),
        actor_opt=OptimConfig(lr=8e-5),
        critic_opt=OptimConfig(lr=8e-5),
    )
    return Config(
        name="dreamerv2",
        preset="dmc-vision",
        agent=agent,
        env=EnvConfig(id=env or "dmc/walker-walk", num_envs=1, protocol="dmc-vision"),
        replay=ReplayConfig(budget=12_000_000_000, batch=16, learn=50),
        run=RunConfig(
            frames=2_000_000,
            prefill=1000,
            pretrain=100,
            train_ratio=160.0,
            checkpoint_every=10_000,
            eval_every=10_000,
            eval_episodes=10,
        ),
    )


def proprio(env: str) -> Config:
    """DreamerV2 on the control suite from joint positions and velocities (configs.yaml: dmc_proprio)."""
    config = vision(env)
    return replace(config, preset="dmc-proprio", env=replace(config.env, protocol="dmc-proprio"))


PRESETS = {("dreamerv2", "dmc-vision"): vision, ("dreamerv2", "dmc-proprio"): proprio}
