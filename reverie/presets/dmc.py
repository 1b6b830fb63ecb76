"""DeepMind Control: DreamerV2 from pixels and vectors, as its official code released it, and under varied looks."""

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


def remastered(env: str) -> Config:
    """DreamerV2 on control tasks whose look changes at every reset (github.com/thuml/HarmonyDream, dmc_remastered).

    As `vision`, but deter = hidden = 1024 and 1.004M frames (502k env_steps); 10 evaluation episodes, each with a look
    of its own from the same distribution. The release ran cheetah run, walker walk and cartpole balance.
    """
    config = vision(env or "dmc/cheetah-run")
    return replace(
        config,
        preset="dmc-remastered",
        agent=replace(config.agent, rssm=RSSMConfig(deter=1024, hidden=1024)),
        env=replace(config.env, protocol="dmc-remastered"),
        run=replace(config.run, frames=1_004_000),
    )


PRESETS = {
    ("dreamerv2", "dmc-vision"): vision,
    ("dreamerv2", "dmc-proprio"): proprio,
    ("dreamerv2", "dmc-remastered"): remastered,
}
