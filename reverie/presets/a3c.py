"""A3C: small sizes for two CPU cores, whose numbers are ours (docs/presets.md), and the published ones."""

from __future__ import annotations

from dataclasses import replace

from reverie.agents.a3c import A3CConfig
from reverie.config import Config, RayConfig
from reverie.presets import a2c
from reverie.presets.a2c import used_once
from reverie.presets.parts import by_kind, inherited
from reverie.presets.task import Preset, Task


def cpu(task: Task) -> Config:
    """A3C with small networks for two CPU cores: vectors, toy games or pixels, by the spaces of the environment."""
    return by_kind(task.default("CartPole-v1"), {"vectors": vectors, "toy": toy, "pixels": pixels})


def of(base: Config, workers: int) -> Config:
    """A configuration of A2C with so many workers in the place of its one batch, which they share."""
    agent = A3CConfig(**inherited(base.agent), workers=workers)
    replay = replace(base.replay, batch=base.replay.batch // workers)
    # A worker fetches what its own gradient has made of the parameters before it plays on.
    return replace(base, name="a3c", agent=agent, replay=replay, ray=RayConfig(in_flight=1))


def vectors(task: Task) -> Config:
    """A3C on vectors, for two CPU cores: 200 000 env_steps of 4 workers with 4 environments each, windows of 16 rows.

    A2C's preset, but for who steps on what. Moments of Adam are shared where the paper shares RMSProp's squares: these
    begin at one, and fall too slowly for so short a run.
    """
    return of(a2c.vectors(task), 4)


def toy(task: Task) -> Config:
    """A3C on images of a few cells, for two CPU cores: 80 000 env_steps of 4 workers, windows of 8 rows."""
    return replace(of(a2c.toy(task), 4), preset="cpu-toy")


def pixels(task: Task) -> Config:
    """A3C on pixels, for two CPU cores: A2C's network and windows, 4 workers with 4 environments each."""
    return replace(of(a2c.pixels(task), 4), preset="cpu-pixels")


def atari(task: Task) -> Config:
    """A3C on Atari as published: 16 workers of one environment, windows of 5 rows, shared RMSProp.

    Mnih et al. 2016, section 5.1 and supplement 8: t_max 5, RMSProp's decay 0.99, entropy cost 0.01, gamma 0.99, two
    convolutions of 16 and 32 channels and 256 units, a learning rate that falls to 0 over the run, 84x84 grayscale,
    4 frames, action repeat 4. The paper draws its first learning rates from 1e-4 to 1e-2 and reports the best, and
    tells neither RMSProp's epsilon nor the norm at which gradients are clipped: 7e-4, 0.1 and 40 are what later codes
    have settled on. Gradients are sums over rows, as in algorithm S3. The value's loss is half the squared error, as in
    these codes. The sign of rewards; a lost life ends an episode. 320M frames, in place of the paper's days.
    """
    base = a2c.atari(task)
    agent = A3CConfig(opt=replace(A3CConfig().opt, lr_over=1.0))
    run = replace(base.run, frames=320_000_000, threads=1)
    return replace(
        base,
        name="a3c",
        preset="atari",
        agent=agent,
        replay=used_once(1, 5, 200_000_000, "stored"),
        run=run,
        ray=RayConfig(in_flight=1),
    )


def atari_lstm(task: Task) -> Config:
    """A3C on Atari as published, with 256 LSTM cells after the last hidden layer; otherwise as atari."""
    base = atari(task)
    return replace(base, preset="atari-lstm", agent=replace(base.agent, core="lstm"))


PRESETS: dict[str, Preset] = {
    "cpu": cpu,
    "cpu-vectors": vectors,
    "cpu-toy": toy,
    "cpu-pixels": pixels,
    "atari": atari,
    "atari-lstm": atari_lstm,
}
