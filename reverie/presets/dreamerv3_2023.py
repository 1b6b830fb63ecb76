"""DreamerV3 of 2023: one small size for two CPU cores, whose numbers are ours, and its official code's presets.

The code is github.com/danijar/dreamerv3 as of 2023, which github.com/thuml/HarmonyDream holds in its folder
dreamerv3-jax. Batches of 16 x 64 rows; training begins with 1024 windows, which are 1024 + 63 n random env_steps of n
environments; the replay holds a million of them.
"""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamer_sizes import XL, M, S, Size2023, Tiny2023
from reverie.agents.dreamerv3_2023 import DreamerV3Of2023Config
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.nets.optim import OptimConfig
from reverie.presets.parts import short_run, sparing_run
from reverie.presets.task import Preset, Task

NAME = "dreamerv3-2023"


def cpu(task: Task) -> Config:
    """DreamerV3 of 2023 with small networks for two CPU cores: one set of numbers for all environments.

    Against the paper: learning rates and entropy for thousands of updates, not hundreds of thousands; the rates fall
    to 0; batches of 8 x 16 rows; a third of the run is random play, which meets what a policy that is sure of itself
    would not.
    """
    agent = DreamerV3Of2023Config(
        size=Tiny2023(),
        entropy=0.03,
        model_opt=OptimConfig(lr=1e-3, lr_over=1.0, eps=1e-8, clip=1000.0, shrink=0.0),
        actor_opt=OptimConfig(lr=3e-4, lr_over=1.0, eps=1e-5, clip=100.0, shrink=0.0),
        critic_opt=OptimConfig(lr=3e-4, lr_over=1.0, eps=1e-5, clip=100.0, shrink=0.0),
    )
    replay = ReplayConfig(8, WindowConfig(learn=16), store=StoreConfig(500_000_000))
    task = task.default("toy/catch")
    config = Config(NAME, "cpu", agent, task.env(4), replay, short_run(12_000, 4000, 64.0))
    return sparing_run(config, task) if task.control else config


def _published(
    task: Task, preset: str, size: Size2023, ratio: float, envs: int, env_steps: int, protocol: str
) -> Config:
    """What all published presets have in common."""
    return Config(
        name=NAME,
        preset=preset,
        agent=DreamerV3Of2023Config(size=size),
        env=task.env(envs, protocol),
        replay=ReplayConfig(16, WindowConfig(learn=64), store=StoreConfig(13_000_000_000)),
        run=RunConfig(
            env_steps=env_steps,
            prefill=1024 + 63 * envs,
            pretrain=1,
            train_ratio=ratio,
            checkpoint_every=20_000,
            eval_episodes=10,
        ),
    )


def atari(task: Task) -> Config:
    """DreamerV3 of 2023 on Atari (configs.yaml: atari): XL, 64x64 RGB, sticky actions, all actions, no no-ops.

    5.5e7 env_steps of 8 games, train ratio 64. Games of 30 minutes that are cut off count as ends there
    (``is_terminal``), here as time limits.
    """
    config = _published(task.default("ALE/Pong-v5"), "atari", XL(), 64.0, 8, 55_000_000, "atari")
    options = {"grayscale": False, "full_actions": True, "noop_max": 0}
    return replace(config, env=task.default("ALE/Pong-v5").env(8, "atari", options))


def atari_100k(task: Task) -> Config:
    """DreamerV3 of 2023 on 100k env_steps of Atari, as HarmonyDream runs it (configs.yaml: atari100k): S, float32.

    64x64 RGB, no sticky actions, minimal actions; train ratio 1024; 100 sampled episodes every 5000 env_steps.
    """
    config = _published(task.default("ALE/Pong-v5"), "atari100k", S(), 1024.0, 1, 101_000, "atari100k")
    run = replace(config.run, precision="float32", eval_every=5000, eval_episodes=100, checkpoint_every=5000)
    return replace(config, run=run, replay=replace(config.replay, store=StoreConfig(2_000_000_000)))


def crafter(task: Task) -> Config:
    """DreamerV3 of 2023 on Crafter (configs.yaml: crafter): XL, train ratio 512, 1.01M env_steps."""
    config = _published(task.default("crafter/reward"), "crafter", XL(), 512.0, 1, 1_010_000, "auto")
    return replace(config, run=replace(config.run, eval_every=20_000))


def minecraft_like(task: Task) -> Config:
    """DreamerV3 of 2023 with its Minecraft settings (configs.yaml: minecraft), on Crafter: XL, 16 worlds, ratio 16.

    The length, 10M env_steps, is ours; the code has none.
    """
    return _published(task.default("crafter/reward"), "minecraft-like", XL(), 16.0, 16, 10_000_000, "auto")


def dmc_vision(task: Task) -> Config:
    """DreamerV3 of 2023 on the control suite from pixels (configs.yaml: dmc_vision): S, action repeat 2, ratio 512.

    500k env_steps, the paper's million frames, of 4 environments.
    """
    return _published(task.default("dmc/walker-walk"), "dmc-vision", S(), 512.0, 4, 500_000, "dmc-vision")


def dmc_proprio(task: Task) -> Config:
    """DreamerV3 of 2023 on the control suite from state (configs.yaml: dmc_proprio): S, action repeat 2, ratio 512.

    250k env_steps, the paper's 500k frames, of 4 environments. Vectors have MLPs of 5 x 1024 in every size.
    """
    return _published(task.default("dmc/walker-walk"), "dmc-proprio", S(), 512.0, 4, 250_000, "dmc-proprio")


def dmc_remastered(task: Task) -> Config:
    """DreamerV3 of 2023 on control tasks whose look changes, as in HarmonyDream (configs.yaml: dmc_remastered): S.

    500k env_steps, ours; the code has no length.
    """
    return _published(task.default("dmc/walker-walk"), "dmc-remastered", S(), 512.0, 4, 500_000, "dmc-remastered")


def metaworld(task: Task) -> Config:
    """DreamerV3 of 2023 on Meta-world from pixels, as HarmonyDream runs it (dreamerv3-jax, configs.yaml: metaworld): M.

    Batches of 50 x 50, train ratio 500, 255k env_steps of 5 environments, training begins with 5000 windows; the
    continuation does not shape the memory; 10 episodes every 10k.
    """
    config = _published(task.default("metaworld/lever-pull"), "metaworld", M(), 500.0, 5, 255_000, "metaworld")
    replay = replace(config.replay, batch=50, window=WindowConfig(learn=50))
    agent = replace(config.agent, grad_heads=("decoder", "reward"))
    return replace(
        config, agent=agent, replay=replay, run=replace(config.run, eval_every=10_000, prefill=5000 + 49 * 5)
    )


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "atari": atari,
    "atari100k": atari_100k,
    "crafter": crafter,
    "minecraft-like": minecraft_like,
    "dmc-vision": dmc_vision,
    "dmc-proprio": dmc_proprio,
    "dmc-remastered": dmc_remastered,
    "metaworld": metaworld,
}
