"""Honest small sizes that learn on two CPU cores. Every number here is ours, chosen by measurement."""

from __future__ import annotations

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.agents.worldmodel import WorldModelConfig
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig


def dreamerv2(env: str) -> Config:
    """DreamerV2 with small networks, for images and vectors, discrete and continuous."""
    head = HeadConfig(layers=2, units=128)
    code = EncoderConfig(depth=16, layers=2, units=128)
    agent = DreamerV2Config(
        model=WorldModelConfig(
            encoder=code,
            decoder=code,
            rssm=RSSMConfig(deter=128, hidden=128, stoch=16, classes=16),
            reward=head,
            discount=head,
            reward_transform="identity",
            kl_scale=1.0,
            discount_scale=1.0,
        ),
        actor=head,
        critic=head,
        gamma=0.97,
        entropy=3e-3,
        model_opt=OptimConfig(lr=1e-3),
        actor_opt=OptimConfig(lr=3e-4),
        critic_opt=OptimConfig(lr=3e-4),
    )
    return Config(
        name="dreamerv2",
        preset="cpu",
        agent=agent,
        env=EnvConfig(id=env or "toy/catch", num_envs=4),
        replay=ReplayConfig(budget=1_000_000_000, batch=16, learn=16),
        run=RunConfig(frames=20_000, prefill=500, pretrain=50, train_ratio=64, eval_episodes=100, eval_envs=10),
    )


PRESETS = {("dreamerv2", "cpu"): dreamerv2}
