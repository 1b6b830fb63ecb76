"""DreamerV2's presets: those of its official code; the small sizes for two CPU cores are in `dreamerv2_small`."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import EpisodeEndsConfig
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.rssm import RSSMConfig
from reverie.presets.dreamerv2_small import continuous, control, cpu, pixels, toy, vectors
from reverie.presets.parts import before_films
from reverie.presets.task import Preset, Task


def atari(task: Task) -> Config:
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
        env=task.default("ALE/Pong-v5").env(1, "atari"),
        replay=ReplayConfig(16, WindowConfig(learn=50), EpisodeEndsConfig(), StoreConfig(8_400_000_000)),
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


def atari_paper(task: Task) -> Config:
    """DreamerV2 on Atari by the paper's own table: batches of 50 x 50, discount 0.995, all actions, 4 env_steps/update.

    Source: arXiv 2010.02193, appendix "Hyper parameters". An update per 4 policy steps of 50 x 50 rows is a train
    ratio of 625.
    """
    config = atari(task)
    return replace(
        config,
        preset="atari-paper",
        agent=replace(config.agent, gamma=0.995),
        env=replace(config.env, options={"full_actions": True}),
        replay=replace(config.replay, batch=50, window=WindowConfig(learn=50)),
        run=replace(config.run, train_ratio=625.0),
    )


def atari_100k(task: Task) -> Config:
    """DreamerV2 on 400k frames (100k env_steps) of Atari without sticky actions, with a train ratio for little data.

    Protocol of Kaiser et al. 2019 (Atari 100k). The train ratio (200: an update per 4 env_steps) and what
    comes before it, prefill and pretrain, are ours; DreamerV2 was not published on this benchmark.
    """
    config = atari(task)
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


def crafter(task: Task) -> Config:
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
        env=task.default("crafter/reward").env(1),
        replay=ReplayConfig(16, WindowConfig(learn=50), EpisodeEndsConfig(), StoreConfig(13_000_000_000)),
        run=RunConfig(
            frames=1_000_000, prefill=10_000, pretrain=1, train_ratio=160.0, eval_every=20_000, checkpoint_every=20_000
        ),
    )


def dmc_vision(task: Task) -> Config:
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
        env=EnvConfig(task.default("dmc/walker-walk").id, 1, "dmc-vision"),
        replay=ReplayConfig(16, WindowConfig(learn=50), store=StoreConfig(12_000_000_000)),
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


def dmc_proprio(task: Task) -> Config:
    """DreamerV2 on the control suite from joint positions and velocities (configs.yaml: dmc_proprio)."""
    config = dmc_vision(task)
    return replace(config, preset="dmc-proprio", env=replace(config.env, protocol="dmc-proprio"))


def dmc_remastered(task: Task) -> Config:
    """DreamerV2 on control tasks whose look changes at every reset (github.com/thuml/HarmonyDream, dmc_remastered).

    As `dmc_vision`, but deter = hidden = 1024 and 1.004M frames (502k env_steps); 10 evaluation episodes, each with a
    look of its own from the same distribution. The release ran cheetah run, walker walk and cartpole balance.
    """
    config = dmc_vision(task.default("dmc/cheetah-run"))
    return replace(
        config,
        preset="dmc-remastered",
        agent=replace(config.agent, rssm=RSSMConfig(deter=1024, hidden=1024)),
        env=replace(config.env, protocol="dmc-remastered"),
        run=replace(config.run, frames=1_004_000),
    )


def dmc_background(task: Task) -> Config:
    """DreamerV2 on control tasks before moving films (github.com/thuml/HarmonyDream, dmc_natural_background).

    As `dmc_remastered`, with other pictures. The films there are Kinetics videos of cars, here they are drawn.
    """
    return before_films(dmc_remastered, task)


def metaworld(task: Task) -> Config:
    """DreamerV2 on Meta-world from pixels (github.com/thuml/HarmonyDream, wmlib-torch: metaworld).

    Batches of 50 x 50, an update per 5 env_steps, 5000 random ones first, 255k altogether; windows favour the ends of
    episodes, deter = hidden = 1024, no free nats; all else as `dmc_vision`. The release ran lever pull, handle pull
    side and hammer, of version 2.
    """
    config = dmc_vision(task.default("metaworld/lever-pull"))
    return replace(
        config,
        preset="metaworld",
        agent=replace(config.agent, rssm=RSSMConfig(deter=1024, hidden=1024), kl_free=0.0),
        env=replace(config.env, protocol="metaworld"),
        replay=ReplayConfig(50, WindowConfig(learn=50), EpisodeEndsConfig(), StoreConfig(13_000_000_000)),
        run=replace(config.run, frames=255_000, prefill=5000, train_ratio=500.0),
    )


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "cpu-vectors": vectors,
    "cpu-continuous": continuous,
    "cpu-control": control,
    "atari": atari,
    "atari-paper": atari_paper,
    "atari100k": atari_100k,
    "crafter": crafter,
    "dmc-vision": dmc_vision,
    "dmc-proprio": dmc_proprio,
    "dmc-remastered": dmc_remastered,
    "dmc-background": dmc_background,
    "metaworld": metaworld,
}
