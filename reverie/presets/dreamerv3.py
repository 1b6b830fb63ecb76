"""DreamerV3 as it is now: one small size for two CPU cores, whose numbers are ours, and its official code's presets.

The code is github.com/danijar/dreamerv3, configs.yaml, of 2024 to 2026. Where the paper's table (Nature 640, extended
data) has other numbers for the same benchmark, it is a preset of its own. Batches of 16 x 64 rows with stored states,
newest windows first; training begins with 1024 windows, after random env_steps here and those of an untrained actor
there. A stored state of the size 200M is 41 kB, beside 12 kB for a picture: the replay of 5 million rows there would be
270 GB. Budgets here hold a whole run where it is short, else a million rows.
"""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.dreamer_sizes import M1, M12, M200, Size, Tiny
from reverie.agents.dreamerv3 import DreamerV3Config
from reverie.config import Config, ReplayConfig, RunConfig, StoreConfig, WindowConfig
from reverie.data.selectors import OnlineConfig
from reverie.nets.optim import OptimConfig
from reverie.presets.parts import short_run, sparing_run
from reverie.presets.task import Preset, Task

NAME = "dreamerv3"


def cpu(task: Task) -> Config:
    """DreamerV3 with small networks for two CPU cores: one set of numbers for all environments.

    Against the code: learning rate, warm-up and entropy for thousands of updates, not hundreds of thousands; the rate
    falls to 0; batches of 8 x 16 rows; a third of the run is random play, which meets what a policy that is sure of
    itself would not. On control from pixels these are small and a run is of another length, as the paper's benchmarks.
    """
    opt = OptimConfig(
        lr=1e-3, eps=1e-20, clip=float("inf"), shrink=0.0, kind="laprop", lr_over=1.0, warmup=100, agc=0.3
    )
    agent = DreamerV3Config(size=Tiny(), entropy=0.02, opt=opt)
    replay = ReplayConfig(8, WindowConfig(learn=16, state="stored"), OnlineConfig(), StoreConfig(500_000_000))
    task = task.default("toy/catch")
    config = Config(NAME, "cpu", agent, task.env(4), replay, short_run(12_000, 4000, 64.0))
    return sparing_run(config, task) if task.control else config


def _published(
    task: Task, preset: str, size: Size, ratio: float, envs: int, env_steps: int, protocol: str, gigabytes: int
) -> Config:
    """What all published presets have in common."""
    return Config(
        name=NAME,
        preset=preset,
        agent=DreamerV3Config(size=size),
        env=task.env(envs, protocol),
        replay=ReplayConfig(16, WindowConfig(learn=64, state="stored"), OnlineConfig(), StoreConfig(gigabytes * 10**9)),
        run=RunConfig(
            env_steps=env_steps,
            prefill=1024 + 64 * envs,
            pretrain=1,
            train_ratio=ratio,
            checkpoint_every=50_000,
            eval_episodes=10,
        ),
    )


def atari(task: Task) -> Config:
    """DreamerV3 on Atari (configs.yaml: atari): 96x96 grayscale, sticky actions, all actions, up to 30 no-ops.

    5.1e7 env_steps of 16 games, train ratio 32. Games of 30 minutes that are cut off count as ends there
    (``is_terminal``), here as time limits; frames are resized by area here, bilinearly there.
    """
    task = task.default("ALE/Pong-v5")
    config = _published(task, "atari", M200(), 32.0, 16, 51_000_000, "atari", 50)
    return replace(config, env=task.env(16, "atari", {"size": 96, "full_actions": True}))


def atari_100k(task: Task) -> Config:
    """DreamerV3 on Atari 100k by the code (configs.yaml: atari100k): 64x64 RGB, no sticky actions, train ratio 256.

    Up to 30 no-ops, where the code of 2023 has up to 29. 1.1e5 env_steps there; here 1e5, the benchmark's.
    """
    task = task.default("ALE/Pong-v5")
    config = _published(task, "atari100k", M200(), 256.0, 1, 100_000, "atari100k", 6)
    env = task.env(1, "atari100k", {"noop_max": 30})
    return replace(config, env=env, run=replace(config.run, eval_episodes=100))


def atari_100k_paper(task: Task) -> Config:
    """DreamerV3 on Atari 100k by the paper's table: as the code, but a train ratio of 128."""
    config = atari_100k(task)
    return replace(config, preset="atari100k-paper", run=replace(config.run, train_ratio=128.0))


def crafter(task: Task) -> Config:
    """DreamerV3 on Crafter (configs.yaml: crafter): train ratio 512, one world; 1M env_steps (1.1M there)."""
    return _published(task.default("crafter/reward"), "crafter", M200(), 512.0, 1, 1_000_000, "auto", 55)


def minecraft_like(task: Task) -> Config:
    """DreamerV3 with its Minecraft settings (configs.yaml: minecraft), on Crafter: 16 worlds, train ratio 32.

    The length, 10M env_steps, is ours; the code has none.
    """
    return _published(task.default("crafter/reward"), "minecraft-like", M200(), 32.0, 16, 10_000_000, "auto", 55)


def dmc_vision(task: Task) -> Config:
    """DreamerV3 on the control suite from pixels by the code (configs.yaml: dmc_vision): action repeat 1, ratio 256.

    1M env_steps (1.1M there) of 16 environments.
    """
    task = task.default("dmc/walker-walk")
    config = _published(task, "dmc-vision", M200(), 256.0, 16, 1_000_000, "dmc-vision", 55)
    return replace(config, env=task.env(16, "dmc-vision", {"action_repeat": 1}))


def dmc_vision_paper(task: Task) -> Config:
    """DreamerV3 on the control suite from pixels by the paper's table: 12M, action repeat 2, train ratio 512.

    500k env_steps, a million frames, of 16 environments.
    """
    task = task.default("dmc/walker-walk")
    return _published(task, "dmc-vision-paper", M12(), 512.0, 16, 500_000, "dmc-vision", 12)


def dmc_proprio(task: Task) -> Config:
    """DreamerV3 on the control suite from state by the code (configs.yaml: dmc_proprio): 1M, repeat 1, ratio 1024.

    1M env_steps (1.1M there) of 16 environments.
    """
    task = task.default("dmc/walker-walk")
    config = _published(task, "dmc-proprio", M1(), 1024.0, 16, 1_000_000, "dmc-proprio", 4)
    return replace(config, env=task.env(16, "dmc-proprio", {"action_repeat": 1}))


def dmc_proprio_paper(task: Task) -> Config:
    """DreamerV3 on the control suite from state by the paper's table: 12M, action repeat 2, train ratio 512.

    250k env_steps, 500k frames, of 16 environments.
    """
    task = task.default("dmc/walker-walk")
    return _published(task, "dmc-proprio-paper", M12(), 512.0, 16, 250_000, "dmc-proprio", 4)


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "atari": atari,
    "atari100k": atari_100k,
    "atari100k-paper": atari_100k_paper,
    "crafter": crafter,
    "minecraft-like": minecraft_like,
    "dmc-vision": dmc_vision,
    "dmc-vision-paper": dmc_vision_paper,
    "dmc-proprio": dmc_proprio,
    "dmc-proprio-paper": dmc_proprio_paper,
}
