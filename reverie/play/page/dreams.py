"""N dreams of one state, played with the same actions: where they differ, the model is unsure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reverie.data.rows import OBS, Rows, State
from reverie.envs.env import EnvSpec
from reverie.nets.encoders import is_image
from reverie.play.dream_env import DreamEnv, Ends
from reverie.play.page.minds import Dreaming, Picture, Said

ENDS = Ends(threshold=0.5)


@dataclass(frozen=True)
class Dreamed:
    """N dreams at one moment. saved: of the environment. rows: [N, ...] told. over: bool [N], which have ended, with
    this moment or before; done: before, so that nothing of them is new.

    step: env_steps dreamed since the beginning. said: by the mind, of these states. returns: sums of rewards [N].
    """

    saved: dict[str, Any]
    rows: Rows
    over: np.ndarray
    done: np.ndarray
    step: int
    said: Said
    returns: np.ndarray
    pictures: dict[str, Picture] = field(default_factory=dict)


class Dreams:
    """N dreams of a model. Raises UserError if the model says nothing of observations."""

    def __init__(self, mind: Dreaming, spec: EnvSpec, state: State, count: int, seed: int) -> None:
        self.mind, self.count = mind, count
        one = {name: value[:1] for name, value in state.items()}
        self.env = DreamEnv(mind.model, spec, one, count, ENDS)
        rows = self.env.reset(seed)
        awake = np.zeros(count, bool)
        self.now = self._dreamed(rows, awake, awake, 0, np.zeros(count))

    @property
    def state(self) -> State:
        """States of the dreams, name -> [N, ...]."""
        return self.env.state

    def step(self, action: np.ndarray, likely: bool) -> None:
        """Dream one step on, all with the same action [1, ...]. Dreams that are over stay as they are.

        likely: with the most likely latents; N dreams are then one.
        """
        before, env, now = self.env.state, self.env, self.now
        u = env.uniform(np.arange(self.count), env.model.latent_noise + 1)
        rows, terminal = env.advance(np.repeat(action, self.count, 0), u, likely)
        if now.over.any():
            over = torch.from_numpy(now.over).to(env.model.device)
            env.state = {
                name: torch.where(over.view(-1, *[1] * (value.dim() - 1)), before[name], value)
                for name, value in env.state.items()
            }
            for name, value in rows.items():
                value[now.over] = now.rows[name][now.over]
            rows["reward"][now.over] = 0.0
        ended = terminal & ~now.over
        rows["is_last"] = rows["is_terminal"] = ended | now.over
        self.now = self._dreamed(rows, ended | now.over, now.over, now.step + 1, now.returns + rows["reward"])

    def go(self, dreamed: Dreamed) -> None:
        """Return to a moment of these dreams, bit for bit."""
        if dreamed is not self.now:
            self.env.load_state_dict(dreamed.saved)
            self.now = dreamed

    def _dreamed(self, rows: Rows, over: np.ndarray, done: np.ndarray, step: int, returns: np.ndarray) -> Dreamed:
        pictures = {"dream_prior": self.mind.prior(self.state)} if step else {}
        said = self.mind.tell(self.state)
        return Dreamed(self.env.state_dict(), rows, over, done, step, said, returns, pictures)


def spread(rows: Rows, spec: EnvSpec) -> tuple[float | None, Picture | None]:
    """How far N dreams [N, ...] are apart: mean deviation of the first image's pixels in [0, 1], and its picture.

    The picture is uint8 [H, W], twice the deviation, so that dreams which are half black and half white give white.
    Without an image: of all other numbers, and no picture. None if there is only one dream.
    """
    if len(rows["reward"]) < 2:
        return None, None
    key = next((OBS + key for key, space in spec.observation.items() if is_image(space)), None)
    if key is None:
        numbers = [rows[OBS + k].reshape(len(rows["reward"]), -1).astype(np.float64) for k in spec.observation]
        return float(np.concatenate(numbers, 1).std(0).mean()), None
    deviation = (rows[key].astype(np.float32) / 255).std(0).mean(-1)
    return float(deviation.mean()), (np.clip(2 * deviation, 0, 1) * 255).round().astype(np.uint8)


def error(dream: Rows, world: Rows, spec: EnvSpec) -> float | None:
    """Mean squared difference of the first dream from the world's row [1, ...], per number; pixels in [0, 1].

    Over the observations that the dream tells. None if it tells none.
    """
    squares = []
    for key, space in spec.observation.items():
        if OBS + key in dream:
            scale = 255.0 if is_image(space) else 1.0
            difference = (dream[OBS + key][0].astype(np.float64) - world[OBS + key][0].astype(np.float64)) / scale
            squares.append((difference**2).reshape(-1))
    return float(np.concatenate(squares).mean()) if squares else None
