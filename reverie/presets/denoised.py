"""Denoised MDP: Dreamer V1's small sizes with noise beside the signal, and its official code's for Control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reverie.agents.denoised import DenoisedConfig
from reverie.config import Config
from reverie.nets.factored_rssm import ChainConfig
from reverie.nets.rssm import RSSMConfig
from reverie.presets import dreamerv1
from reverie.presets.parts import before_films, built_on, inherited
from reverie.presets.task import Preset, Task


def settings(preset: str, config: Config) -> DenoisedConfig:
    """The settings of a small Dreamer V1, whose memory is the signal's, with noise y of half its size."""
    rssm = config.agent.rssm
    noise = ChainConfig(rssm.deter // 2, rssm.stoch // 2)
    return DenoisedConfig(**inherited(config.agent, "kl_free_per"), y=noise)


SMALL: Mapping[str, Preset] = {name: make for name, make in dreamerv1.PRESETS.items() if name.startswith("cpu")}


def dmc_vision(task: Task) -> Config:
    """Denoised MDP on 1M frames of the control suite (github.com/facebookresearch/denoised_mdp, config.py).

    Signal and noise y (figure 2b) of 120 + 20 each, alpha 1, beta 1/4, 3 free nats per row of the signal's KL. Action
    repeat 2, batches, pace and optimisers are Dreamer V1's: 100 updates of 50 x 50 rows per 1000 frames, after 5000
    random ones.
    """
    config = dreamerv1.dmc_vision(task)
    run = replace(config.run, frames=1_000_000)
    return replace(config, name="denoised", preset="dmc-vision", agent=DenoisedConfig(), run=run)


def dmc_vision_xyz(task: Task) -> Config:
    """Denoised MDP with noise z that no reward depends on too: y and z of 70 + 10 each, the published sizes.

    All else as `dmc_vision`.
    """
    config = dmc_vision(task)
    agent = replace(config.agent, y=ChainConfig(70, 10), z=ChainConfig(70, 10))
    return replace(config, preset="dmc-vision-xyz", agent=agent)


def dmc_vision_x(task: Task) -> Config:
    """Denoised MDP without noise, which is Dreamer V1 at its published size of 200 + 30.

    All else as `dmc_vision`. Source: the code's README, "Reproducing Dreamer".
    """
    config = dmc_vision(task)
    rssm = RSSMConfig(200, 200, "gaussian", 30, std="softplus", cell="reset_after")
    return replace(config, preset="dmc-vision-x", agent=replace(config.agent, rssm=rssm, y=ChainConfig(0, 0)))


def dmc_background(task: Task) -> Config:
    """Denoised MDP on 1M frames of the control suite before moving films (config.py: video_background).

    As `dmc_vision`, with other pictures. The films there are Kinetics videos of cars, here they are drawn.
    """
    return before_films(dmc_vision, task)


PRESETS: dict[str, Preset] = {
    **built_on(SMALL, "denoised", "Denoised MDP", settings),
    "dmc-vision": dmc_vision,
    "dmc-vision-xyz": dmc_vision_xyz,
    "dmc-vision-x": dmc_vision_x,
    "dmc-background": dmc_background,
}
