"""Crafter: DreamerV2 as its official code configures it."""

from __future__ import annotations

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig


def dreamerv2(env: str) -> Config:
    """DreamerV2 on Crafter (github.com/danijar/dreamerv2, configs.yaml: crafter): larger memory, layer norms.

    deter = hidden = 1024, LayerNorm in every dense layer, entropy 3e-3, all learning rates 1e-4, one update per
    5 env_steps, tanh rewards, discount head.
    """
    head = HeadConfig(norm=True)
    code = EncoderConfig(norm=True)
    agent = DreamerV2Config(
        encoder=code,
        decoder=code,
        rssm=RSSMConfig(deter=1024, hidden=1024, norm=True),
        reward=head,
        discount=head,
        kl_scale=1.0,
        kl_free=0.0,
        discount_scale=1.0,
        reward_transform="tanh",
        actor=head,
        critic=head,
        gamma=0.999,
        entropy=3e-3,
        model_opt=OptimConfig(lr=1e-4),
        actor_opt=OptimConfig(lr=1e-4),
        critic_opt=OptimConfig(lr=1e-4),
    )
    return Config(
        name="dreamerv2",
        preset="crafter",
        agent=agent,
        env=EnvConfig(id=env or "crafter/reward", num_envs=1),
        replay=ReplayConfig(budget=13_000_000_000, batch=16, learn=50, selector="ends"),
        run=RunConfig(
            frames=1_000_000, prefill=10_000, pretrain=1, train_ratio=160.0, eval_every=20_000, checkpoint_every=20_000
        ),
    )


PRESETS = {("dreamerv2", "crafter"): dreamerv2}
