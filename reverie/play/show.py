"""What an evaluation looks like: pictures of its first stream with score and actions drawn, in a video or a window.

::

    watch(rows)   row t, before its decision       picture, score so far, the action that led here
                  first row of the next episode    the last picture again, for a second, with the final score

Pictures are the environment's own (`VectorEnv.render`), else the first picture among the observations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs.env import VectorEnv
from reverie.errors import UserError, notice
from reverie.nets.encoders import is_image
from reverie.report.captions import captioned, picture
from reverie.run.roles import Evaluator

FPS = 15.0
"""pictures a second where neither the environment nor its action repeat says how many"""


class Sink(Protocol):
    """Destination of pictures uint8 [H, W, 3], all of one size."""

    def add(self, frame: np.ndarray) -> None:
        """Take one more."""

    def close(self) -> None:
        """Finish; twice is harmless."""

    def drop(self) -> None:
        """Finish without an end, leaving nothing."""


class Film:
    """Watcher of an evaluation, to be given to `Evaluator.run`, and closed after it.

    A sink that fails takes no score down: it is said, and the others go on; nor does an environment that cannot draw
    itself. episodes: of the first stream, that are
    shown; None: all of them. Raises UserError at the first row if there is nothing to show.
    """

    def __init__(self, evaluator: Evaluator, sinks: Sequence[Sink], episodes: int | None = None) -> None:
        self.evaluator, self.episodes = evaluator, episodes
        self.env = evaluator.actor.env
        self.sinks = list(sinks)
        self.whole = True
        """whether all pictures went to all sinks"""
        self.fps = pace(self.env)
        self.begun = 0
        self._last: np.ndarray | None = None
        self._image = next((OBS + key for key, space in self.env.spec.observation.items() if is_image(space)), None)

    def __call__(self, rows: Rows) -> None:
        """Show the first stream's row, before its decision."""
        first = bool(rows["is_first"][0])
        if first:
            self._end()
            self.begun += 1
        if not self.sinks or (self.episodes is not None and self.begun > self.episodes):
            return
        episode = self.evaluator.actor.episodes
        try:
            self._last = self._picture(rows)
        except UserError:
            raise
        except Exception as error:  # whatever somebody's `render` does
            self.drop()
            self.sinks, self._last, self.whole = [], None, False
            what = f"{self.env.spec.id} could not draw itself: {type(error).__name__}: {error}"
            notice(f"{what}; the evaluation goes on without pictures")
            return
        action = "" if first else f"  action {_text(rows['prev_action'][0])}"
        self._show(f"{self._title()}score {episode.score[0]:g}  env_step {episode.length[0]}{action}")

    def close(self) -> None:
        """Show the end of the last episode, and finish what is shown."""
        self._end()
        for sink in list(self.sinks):
            self._try(sink, sink.close)

    def drop(self) -> None:
        """Finish what is shown without its end, where the evaluation had none."""
        for sink in self.sinks:
            sink.drop()

    def _end(self) -> None:
        """Show the last picture of an episode again, with the score of all of it."""
        scores, lengths = self.evaluator.scores[0], self.evaluator.lengths[0]
        if self._last is None or len(scores) < self.begun:
            return
        ended = f"{self._title()}score {scores[self.begun - 1]:g} after {lengths[self.begun - 1]} env_steps"
        for _ in range(max(round(self.fps), 1)):
            self._show(ended)
        self._last = None

    def _title(self) -> str:
        return f"episode {self.begun}  " if self.episodes != 1 else ""

    def _picture(self, rows: Rows) -> np.ndarray:
        if (own := self.env.render()) is not None:
            return picture(own)
        if self._image is not None:
            return picture(rows[self._image][0])
        raise UserError(
            f"{self.env.spec.id} cannot be shown: it draws no pictures (render_mode rgb_array), and none is among its "
            "observations; leave out --video and --render"
        )

    def _show(self, caption: str) -> None:
        assert self._last is not None
        frame = captioned(self._last, caption)
        for sink in list(self.sinks):
            self._try(sink, partial(sink.add, frame))

    def _try(self, sink: Sink, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ValueError, RuntimeError) as error:
            self.sinks.remove(sink)
            self.whole = False
            with suppress(OSError, ValueError, RuntimeError):
                sink.drop()
            notice(f"{type(sink).__name__} goes on without pictures: {error}")


def pace(env: VectorEnv) -> float:
    """Pictures a second: the environment's own, or 60 frames a second in env_steps where actions are repeated."""
    fps = env.render_fps
    if isinstance(fps, int | float) and fps > 0:
        return float(fps)
    repeat = env.spec.action_repeat
    return 60 / repeat if repeat > 1 else FPS


def _text(action: np.ndarray) -> str:
    """An action for people: an index, or numbers with two digits."""
    if action.ndim == 0 and action.dtype.kind in "iu":
        return str(int(action))
    return " ".join(str(int(a)) if action.dtype.kind in "iu" else f"{float(a):+.2f}" for a in action.reshape(-1))
