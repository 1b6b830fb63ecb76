"""Atari: DreamerV2 as its official code released it, as the paper states it, and a 100k-step variant."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig


def dreamerv2(env: str) -> Config:
    """DreamerV2 on 200M frames of Atari, as released (github.com/danijar/dreamerv2, configs.yaml: defaults + atari).

    Follows the code where it differs from the paper: discount 0.999 (paper 0.995), batches of 16 x 50 (paper 50 x 50),
    minimal action sets. 64x64 grayscale, sticky actions, action repeat 4, 50k random env_steps, one update per 16
    env_steps, tanh rewards. The replay there holds 2M env_steps (8.2 GB of frames).
    """
    agent = DreamerV2Config(
        rssm=RSSMConfig(deter=600, hidden=600),
        kl_scale=0.1,
        kl_free=0.0,
        discount_scale=5.0,
        reward_transform="tanh",
        gamma=0.999,
        lam=0.95,
        horizon=15,
        entropy=1e-3,
        actor_grad="auto",
        target_every=100,
        model_opt=OptimConfig(lr=2e-4),
        actor_opt=OptimConfig(lr=4e-5),
        critic_opt=OptimConfig(lr=1e-4),
    )
    return Config(
        name="dreamerv2",
        preset="atari",
        agent=agent,
        env=EnvConfig(id=env or "ALE/Pong-v5", num_envs=1, protocol="atari" if env.startswith("ALE/") else "auto"),
        replay=ReplayConfig(budget=8_400_000_000, batch=16, learn=50, selector="ends"),
        run=RunConfig(
            frames=200_000_000,
            prefill=50_000,
            pretrain=1,
            train_ratio=50.0,
            log_every=1000,
            checkpoint_every=50_000,
            eval_every=250_000,
            eval_episodes=10,
        ),
    )


def dreamerv2_paper(env: str) -> Config:
    """As `atari`, with the paper's own table: batches of 50 x 50, discount 0.995, full action set, 4 env_steps/update.

    Source: arXiv 2010.02193, appendix "Hyper parameters". An update per 4 policy steps of 50 x 50 rows is a train
    ratio of 625.
    """
    config = dreamerv2(env)
    return replace(
        config,
        preset="atari-paper",
        agent=replace(config.agent, gamma=0.995),
        env=replace(config.env, options={"full_actions": True}),
        replay=replace(config.replay, batch=50, learn=50),
        run=replace(config.run, train_ratio=625.0),
    )


def dreamerv2_100k(env: str) -> Config:
    """400k frames (100k env_steps) without sticky actions: `atari` with a train ratio for little data.

    Protocol of Kaiser et al. 2019 (Atari 100k). The train ratio (200: an update per 4 env_steps), prefill and
    KL scale are ours; DreamerV2 was not published on this benchmark.
    """
    config = dreamerv2(env)
    return replace(
        config,
        preset="atari100k",
        env=replace(config.env, protocol="atari100k"),
        run=replace(
            config.run,
            frames=400_000,
            prefill=2_000,
            pretrain=100,
            train_ratio=200.0,
            eval_every=20_000,
            eval_episodes=20,
        ),
    )


PRESETS = {
    ("dreamerv2", "atari"): dreamerv2,
    ("dreamerv2", "atari-paper"): dreamerv2_paper,
    ("dreamerv2", "atari100k"): dreamerv2_100k,
}
