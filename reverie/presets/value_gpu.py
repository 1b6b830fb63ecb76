"""Value-based agents on one GPU and a dozen CPU cores: emulators on the cores, networks and updates on the GPU.

Every number here is ours; see `reverie.presets.value_cpu` for what they grew from.
"""

from __future__ import annotations

from reverie.agents.exploration import Exploration
from reverie.agents.r2d2 import R2D2Config
from reverie.config import Config, EnvConfig, ReplayConfig, RunConfig
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.presets.parts import updates


def r2d2(env: str) -> Config:
    """R2D2 on pixels with one GPU: the published network, 128 streams, and updates captured as one CUDA graph."""
    env = env or "ALE/Pong-v5"
    atari = env.startswith("ALE/")
    replay = ReplayConfig(
        budget=32_000_000_000,
        batch=32,
        context=12,
        learn=20,
        period=10,
        state="stored",
        selector="prioritised",
        alpha=0.9,
    )
    run = RunConfig(
        env_steps=3_000_000,
        prefill=20_000,
        pretrain=0,
        train_ratio=8.0,
        log_every=10_000,
        checkpoint_every=500_000,
        eval_every=500_000,
        eval_episodes=20,
        eval_envs=20,
        precision="bfloat16",
        capture=True,
    )
    over = updates(run, replay)
    agent = R2D2Config(
        n_step=5,
        n_step_end=2,
        n_step_over=over,
        gamma=0.99,
        torso=TorsoConfig(dense=512, standardise=True),
        target_every=100,
        explore=Exploration(kind="ladder", base=0.4, alpha=7.0, evaluation=0.001),
        opt=OptimConfig(lr=5e-4, lr_end=5e-5, lr_over=over, eps=1e-5, clip=40.0, shrink=0.0),
    )
    options = {"full_actions": False} if atari else {}
    return Config(
        name="r2d2",
        preset="gpu",
        agent=agent,
        env=EnvConfig(id=env, num_envs=128, protocol="atari-84" if atari else "auto", options=options),
        replay=replay,
        run=run,
    )


PRESETS = {("r2d2", "gpu"): r2d2}
