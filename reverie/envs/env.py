"""The environment contract: every source of experience is a `VectorEnv`, one adapter per source.

Time runs in rows (see `reverie.data.rows`). `reset` and `step` return the *seen* half of the rows: ``obs.*``,
``reward``, ``is_first``, ``is_last``, ``is_terminal`` as arrays [N, ...]; the actor adds ``prev_action``, ``action``
and extras. A source may end an episode in one of two ways, and both are exact::

    next-step source   step -> rows[i] is_last       its action is ignored; next step -> rows[i] is_first
    same-step source   step -> ends holds the is_last row of stream i, rows[i] is already the is_first row after it
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from reverie.data.rows import Rows
from reverie.envs.adapter import Adapter, of_rows
from reverie.envs.faults import RAISED
from reverie.envs.wrappers import Carried
from reverie.errors import UserError, notice

Resume = Literal["state", "replay", "truncate"]
GAME_RETURN = "game_return"
"""what `Step.episode_info` calls the score of a whole game, at its end, where a life is an episode"""


@dataclass(frozen=True)
class EnvSpec:
    """Description of an environment, as far as an agent or a report needs to know it.

    observation: key -> Box (uint8 [H, W, C] images, float32 vectors), Discrete or MultiDiscrete.
    action: Discrete, MultiDiscrete, or a Box normalised to [-1, 1].
    action_repeat: frames per env_step.
    protocol, flags: the named protocol and every one of its flags, written to the run's config.
    resume: how an interrupted stream goes on: its state is restored (``state``), it is simulated again from its
        episode seed and actions (``replay``), or its open episode is closed as truncated (``truncate``).
    action_mask: whether the observation ``action_mask`` says which actions may be taken, see `reverie.envs.masks`.
    tasks: ids of the environments that these streams are of, where they are of several, see `reverie.envs.tasks`.
    widths: numbers that an action of each task has, where these differ: a Box of the most, of which each takes its own
        first ones. Empty: all take whole actions.
    lives: whether an episode is a life of a game that goes on, and `GAME_RETURN` is said when the game is over.
    random_score, optimal_score: reference episode returns where they are known exactly.
    """

    id: str
    observation: Mapping[str, spaces.Space]
    action: spaces.Space
    action_repeat: int = 1
    protocol: str = "default"
    flags: Mapping[str, Any] = field(default_factory=dict)
    resume: Resume = "truncate"
    action_mask: bool = False
    tasks: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    lives: bool = False
    random_score: float | None = None
    optimal_score: float | None = None


@dataclass(frozen=True)
class Step:
    """Rows of one `VectorEnv.step`: a row per stream, and the closing rows of same-step sources.

    rows: field -> [N, ...]. ends: field -> [M, ...] rows with is_last that come *before* `rows` in their streams, or
    None. streams: int64 [M], the streams of `ends`.
    episode_info: stream -> name -> number, what the source measured over an episode whose is_last row is in this step
    (achievements, the score of the whole game, ...). It is logged, never stored in replay.
    lost: int64 [K], streams whose action came to nothing, because the environment raised and was made anew, or None.
        What was seen before is the last row of its episode, cut as by a time limit; `rows` begins another.
    earned: float64 [N], what the environments themselves paid for this step, where wrappers above them change rewards;
        scores are sums of these. None: of ``rows["reward"]``, or of the closing row's.
    """

    rows: Rows
    ends: Rows | None = None
    streams: np.ndarray | None = None
    episode_info: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    lost: np.ndarray | None = None
    earned: np.ndarray | None = None


class VectorEnv(ABC):
    """N environment streams stepped together."""

    spec: EnvSpec
    num_envs: int
    render_fps: float | None = None
    """pictures a second at which `render` is to be seen, where the source says so"""
    action_names: Sequence[str] = ()
    """what discrete actions are called, one name each, where the source says so"""

    @property
    def adapter(self) -> Adapter:
        """Adapter of what the source's own steps give and take; of sources of rows, of rows."""
        return of_rows(self.spec.observation, self.spec.action)

    @abstractmethod
    def reset(self, seed: int) -> Rows:
        """First rows [N, ...] of all streams, which begin anew.

        Stream i is a function of (seed, i) and its actions, whatever the others do.
        """

    @abstractmethod
    def step(self, action: np.ndarray) -> Step:
        """Rows that follow on ``action`` [N] (Discrete), [N, K] (MultiDiscrete) or [N, A] (Box in [-1, 1]).

        Raises EnvFault where an environment raises or departs from its spaces; `state_dict` is then that before.
        Raises UserError for actions that there are not, and of another number, before anything is stepped.
        """

    def check_action(self, action: np.ndarray) -> None:
        """Raise UserError for an action that `step` does not take; what lies outside of a Box is clipped."""
        given, space = np.asarray(action), self.spec.action
        shape = (self.num_envs, *(space.shape or ()))
        if given.shape != shape:
            raise UserError(
                f"{self.spec.id} takes actions of shape {shape}, the first number of streams, got {given.shape}"
            )
        if (most := getattr(space, "n", getattr(space, "nvec", None))) is None:
            return
        if given.size and not ((given >= 0) & (given < most) & (given == np.floor(given))).all():
            raise UserError(f"{self.spec.id}: there is no action {given.tolist()} in {space}")

    def metrics(self) -> dict[str, float]:
        """Metrics of the source itself, if there are any."""
        return {}

    def carried(self) -> Carried | None:
        """What wrappers of a single environment carry from episode to episode, see `reverie.envs.wrappers`."""
        return None

    def adopt(self, carried: Carried, keep: bool = True) -> None:
        """Carry, from the next reset on, what environments of a run carried. keep: and leave it as it is.

        Raises UserError if these have other wrappers.
        """
        raise UserError(f"{self.spec.id} has no wrappers that carry anything from episode to episode")

    def state_dict(self) -> dict[str, Any]:
        """State that `load_state_dict` needs: nested dicts of arrays, numbers, strings and lists (never pickled)."""
        raise NotImplementedError(f"{self.spec.id} cannot be resumed in mid-episode")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to exactly where `state_dict` was taken. Raises ResumeError if the environment would differ."""
        raise NotImplementedError(f"{self.spec.id} cannot be resumed in mid-episode")

    def render(self) -> np.ndarray | None:
        """Picture [H, W, 3] of the first stream for people, of the row that was given last; None if there is none.

        Sources that draw only if they were asked to from the start are made by `reverie.envs.make.make_drawn`.
        """
        return None

    def close(self) -> None:
        """Free simulators and windows."""


def close_all(envs: Iterable[Any]) -> None:
    """Call `close` of every one; the error of the first that fails at that is raised when all are closed."""
    errors: list[BaseException] = []
    for env in envs:
        try:
            env.close()
        except RAISED as error:
            errors.append(error)
    if errors:
        raise errors[0]


def shut(env: VectorEnv) -> None:
    """Close environments that are done with. One that fails at that takes nothing down: it is said."""
    try:
        env.close()
    except Exception as error:
        notice(f"{env.spec.id} could not be closed: {type(error).__name__}: {error}")


class ResumeError(RuntimeError):
    """The environment did not come back to the state that was saved."""
