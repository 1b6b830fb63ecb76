"""Value-based agents on one GPU and a dozen CPU cores: emulators on the cores, networks and updates on the GPU.

Every number here is ours.
"""

from __future__ import annotations

from dataclasses import replace

from reverie.config import Config
from reverie.presets.parts import updates
from reverie.presets.value_cpu import r2d2_pixels


def r2d2(env: str) -> Config:
    """R2D2 on pixels with one GPU: the published network, 128 streams, and updates captured as one CUDA graph.

    Everything else is what Pong asked for on a processor: see `reverie.presets.value_cpu.r2d2_pixels`.
    """
    env = env or "ALE/Pong-v5"
    base = r2d2_pixels(env)
    replay = replace(base.replay, budget=32_000_000_000, batch=32)
    run = replace(
        base.run,
        env_steps=3_000_000,
        prefill=20_000,
        log_every=10_000,
        checkpoint_every=500_000,
        eval_every=500_000,
        threads=0,
        capture=True,
    )
    over = updates(run, replay)
    agent = replace(
        base.agent,
        n_step_over=over,
        stack=4,
        torso=replace(base.agent.torso, dense=512),
        units=512,
        hidden=512,
        opt=replace(base.agent.opt, lr_over=over),
    )
    options = {"full_actions": False} if env.startswith("ALE/") else {}
    streams = replace(base.env, num_envs=128, options=options)
    return replace(base, preset="gpu", agent=agent, env=streams, replay=replay, run=run)


PRESETS = {("r2d2", "gpu"): r2d2}
