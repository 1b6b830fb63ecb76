"""Atari 2600 games through ale-py's vector emulator, under named protocols in which every flag is explicit.

The emulator is used as a source that ends in the same step: at a game's end this adapter resets that stream at once,
before the emulator would do so by itself. Seeding an emulator costs as much as 300 env_steps of play, because it loads
the game anew, so a stream is seeded at the first game that begins `RESEED` or more env_steps after its last seeding::

    stream i   seed(i, 0) game 0 | game 1 | game 2 | seed(i, 3) game 3 | ...

From one seeding to the next the stream is a function of that seed and its actions alone, whatever was played before.
Streams are resumed by playing their actions again from the last seeding on.

Where losing a life is a true end for learning (``life_loss``), the game goes on and one frame is seen twice::

    step(a) -> ends: frame o, is_last, is_terminal       rows: the same frame o, is_first, reward 0

The score of the whole game is then in `Step.episode_info`, as ``game_return``.

Where a game ends within an env_step the emulator pools what frames it has: the picture of a closing row shows the
env_step before, or both at once. Nobody acts on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.rows import Rows
from reverie.envs.atari_protocols import PROTOCOLS, AtariProtocol
from reverie.envs.env import GAME_RETURN, EnvSpec, ResumeError, Step, VectorEnv
from reverie.envs.options import annotated, check_options
from reverie.envs.resume import ActionLog, episode_seed, row_checksum
from reverie.errors import UserError, suggest

RESEED = 4000
"""env_steps of a stream after which its next game begins from a new seed: at most 7 % of the emulator's time goes into
seeding, and at most this many env_steps and one game are played again on resuming."""


SCREEN = (210, 160)
"""height and width of the console's picture"""


class AtariVector(VectorEnv):
    """`num_envs` streams of one game, as rows of single frames uint8 [size, size, 1 or 3] (agents stack them).

    game: the ROM's name in snake case. threads: of the emulator (0: one per core); results do not depend on it.
    """

    def __init__(
        self, id: str, game: str, num_envs: int, protocol: str, flags: AtariProtocol, threads: int = 0
    ) -> None:
        self.num_envs = num_envs
        self._emulators = partial(
            _ale_vector_env().AtariVectorEnv,
            game,
            num_envs,
            num_threads=threads,
            autoreset_mode="NextStep",
            stack_num=1,
            frameskip=flags.frame_skip,
            maxpool=flags.max_pool,
            repeat_action_probability=flags.sticky,
            full_action_space=flags.full_actions,
            # The emulator draws from 0 .. noop_max - 1.
            noop_max=flags.noop_max + 1,
            # `episodic_life` would restart the game at every lost life.
            episodic_life=False,
            life_loss_info=flags.life_loss,
            use_fire_reset=False,
            reward_clipping=False,
            max_num_frames_per_episode=flags.max_frames,
        )
        self._env = self._emulators(img_height=flags.size, img_width=flags.size, grayscale=flags.grayscale)
        self._screens: Any = None
        """the same games on emulators that keep the screen as people see it"""
        self._screen: np.ndarray | None = None
        channels = 1 if flags.grayscale else 3
        self.spec = EnvSpec(
            id=id,
            observation={"image": spaces.Box(0, 255, (flags.size, flags.size, channels), np.uint8)},
            action=spaces.Discrete(int(self._env.single_action_space.n)),
            action_repeat=flags.frame_skip,
            protocol=protocol,
            flags=asdict(flags),
            resume="replay",
            lives=flags.life_loss,
        )
        self.action_names = [action.name for action in self._env.ale.get_action_set()]
        self._life_loss, self._max_frames = flags.life_loss, flags.max_frames
        self._seed: int | None = None
        self._game = np.zeros(num_envs, np.int64)
        self._seeded_game = np.zeros(num_envs, np.int64)
        self._game_return = np.zeros(num_envs, np.float64)
        self._game_frame = np.zeros(num_envs, np.int64)
        self._game_env_steps = np.zeros(num_envs, np.int64)
        self._log = [ActionLog(self.spec.action) for _ in range(num_envs)]
        self._rows: Rows = {}

    def draw(self) -> AtariVector:
        """This environment, which draws from its next reset on: the same games are played on a second set of emulators.

        They have the same seeds and get the same actions; that they stay together is checked at every step.
        """
        self._screens = self._emulators(img_height=SCREEN[0], img_width=SCREEN[1], grayscale=False)
        return self

    def render(self) -> np.ndarray | None:
        """The screen of the first game in its own size and colours."""
        return self._screen

    def reset(self, seed: int) -> Rows:
        """First rows of the first game of every stream."""
        self._seed = int(seed)
        self._game[:] = 0
        every = np.ones(self.num_envs, bool)
        self._rows = self._begin(every, self._empty(), seeded=every)
        return _copy(self._rows)

    def step(self, action: np.ndarray) -> Step:
        """Rows after one env_step (`frame_skip` frames) of every game; new games follow those that end at once."""
        self.check_action(action)
        self._rows, over = self._advance(np.asarray(action, np.int64))
        for log, a in zip(self._log, action, strict=True):
            log.append(a)
        last = self._rows["is_last"]
        if not last.any():
            return Step(_copy(self._rows))
        streams = np.flatnonzero(last)
        ends = {name: value[streams] for name, value in self._rows.items()}
        info = self._game_info(over)
        self._follow(over)
        return Step(_copy(self._rows), ends, streams, info)

    def state_dict(self) -> dict[str, Any]:
        """Seed, and per stream its game, its last seeded game, the actions since then, a checksum of its row."""
        if self._seed is None:
            raise RuntimeError(f"{self.spec.id} was not reset: there is nothing to save")
        return {
            "seed": self._seed,
            "episode": self._game.copy(),
            "seeded_episode": self._seeded_game.copy(),
            "actions": [log.actions() for log in self._log],
            "checksum": self._checksums(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play every stream again from its last seeding. Raises ResumeError if one arrives somewhere else.

        All streams step together, so each is seeded at the time from which its actions last until the common end::

            stream 0   seed a a a a a a a a |          the longest record
            stream 1   . . . . . seed a a a |          dots: env_steps of a game that is thrown away
        """
        if len(state["actions"]) != self.num_envs:
            raise ResumeError(f"{self.spec.id}: {len(state['actions'])} streams were saved, {self.num_envs} are here")
        self._seed = int(state["seed"])
        self._game = np.array(state["seeded_episode"], np.int64)
        # The emulators refuse to reset some of them before all were reset once.
        self._env.reset()
        self._rows = self._empty()
        for log in self._log:
            log.clear()
        lengths = np.array([len(actions) for actions in state["actions"]])
        nobody = np.zeros(self.num_envs, bool)
        for left in range(int(lengths.max()), 0, -1):
            self._rows = self._begin(lengths == left, self._rows, seeded=lengths == left)
            playing = lengths >= left
            action = np.zeros(self.num_envs, np.int64)
            for i in np.flatnonzero(playing):
                action[i] = state["actions"][i][lengths[i] - left]
                self._log[i].append(action[i])
            self._rows, over = self._advance(action, playing)
            self._follow(over & playing, seeded=nobody, streams=playing)
        self._rows = self._begin(lengths == 0, self._rows, seeded=lengths == 0)
        same = np.array_equal(self._checksums(), state["checksum"]) and np.array_equal(self._game, state["episode"])
        if not same:
            raise ResumeError(f"{self.spec.id}: the emulator did not return to the saved frames; was ale-py changed?")

    def close(self) -> None:
        """The emulators are freed with the object."""

    def _empty(self) -> Rows:
        space = self.spec.observation["image"]
        assert space.shape is not None
        rows: Rows = {"obs.image": np.zeros((self.num_envs, *space.shape), np.uint8)}
        rows["reward"] = np.zeros(self.num_envs, np.float32)
        return rows | {flag: np.zeros(self.num_envs, bool) for flag in ("is_first", "is_last", "is_terminal")}

    def _begin(self, mask: np.ndarray, rows: Rows, seeded: np.ndarray) -> Rows:
        """Rows with the first ones of the current games of the masked streams, which begin, filled in.

        seeded: bool [N], which of them get a new seed; the generators of the others run on.
        """
        assert self._seed is not None
        streams = np.flatnonzero(mask)
        if not len(streams):
            return rows
        # The emulator takes -1 for "not seeded".
        seeds = [episode_seed(self._seed, i, int(self._game[i])) if seeded[i] else -1 for i in streams.tolist()]
        options = {"reset_mask": mask} if not mask.all() else None
        frames, info = self._env.reset(seed=np.array(seeds), options=options)
        if self._screens is not None:
            screens, _ = self._screens.reset(seed=np.array(seeds), options=options)
            self._screen = _frames(screens)[0] if mask[0] else self._screen
        rows = _copy(rows)
        rows["obs.image"][mask] = _frames(frames)[mask]
        rows["reward"][mask] = 0.0
        rows["is_first"][mask] = True
        rows["is_last"][mask] = rows["is_terminal"][mask] = False
        self._game_return[mask] = 0.0
        self._game_env_steps[mask] = 0
        self._game_frame[mask] = info["episode_frame_number"][mask]
        for i in np.flatnonzero(mask & seeded):
            self._log[i].clear()
            self._seeded_game[i] = self._game[i]
        return rows

    def _advance(self, action: np.ndarray, watched: np.ndarray | None = None) -> tuple[Rows, np.ndarray]:
        """Rows of the emulators after one step, and which games are over (lost, won or at the time limit)."""
        frames, reward, terminated, truncated, info = self._env.step(action)
        if self._screens is not None:
            screens, *played, _ = self._screens.step(action)
            if not all(map(np.array_equal, played, (reward, terminated, truncated))):
                raise RuntimeError(f"{self.spec.id}: the game that is shown is not the one that is played")
            self._screen = _frames(screens)[0]
        # A lost life leaves lives; at the end of a game none are left (also in games that never had any).
        over = truncated | (terminated & (info["lives"] == 0)) if self._life_loss else truncated | terminated
        # A life lost at the very time limit is announced as terminated only, yet the game ends there.
        self._game_env_steps += 1
        over |= self._game_env_steps * self.spec.action_repeat >= self._max_frames
        backwards = info["episode_frame_number"] <= self._game_frame
        if (backwards if watched is None else backwards & watched).any():
            raise RuntimeError(f"{self.spec.id}: the emulator began a new game that it did not announce")
        self._game_frame = np.array(info["episode_frame_number"], np.int64)
        self._game_return += reward
        rows: Rows = {
            "obs.image": _frames(frames),
            "reward": reward.astype(np.float32),
            "is_first": np.zeros(self.num_envs, bool),
            "is_last": terminated | truncated,
            "is_terminal": np.array(terminated, bool),
        }
        return rows, over

    def _follow(self, over: np.ndarray, seeded: np.ndarray | None = None, streams: np.ndarray | None = None) -> None:
        """Put the rows that follow closing ones in their places: of new games, or after a lost life the same frame."""
        lost = self._rows["is_last"] & ~over & (True if streams is None else streams)
        self._rows = _copy(self._rows)
        self._rows["reward"][lost] = 0.0
        self._rows["is_first"][lost] = True
        self._rows["is_last"][lost] = self._rows["is_terminal"][lost] = False
        self._game += over
        if seeded is None:
            seeded = over & (np.array([len(log) for log in self._log]) >= RESEED)
        self._rows = self._begin(over, self._rows, seeded)

    def _game_info(self, over: np.ndarray) -> dict[int, Mapping[str, float]]:
        if not self._life_loss:
            return {}
        return {int(i): {GAME_RETURN: float(self._game_return[i])} for i in np.flatnonzero(over)}

    def _checksums(self) -> np.ndarray:
        rows = [{name: value[i] for name, value in self._rows.items()} for i in range(self.num_envs)]
        return np.array([row_checksum(row) for row in rows], np.int64)


def _frames(frames: np.ndarray) -> np.ndarray:
    """Frames [N, H, W, C] of the emulator's [N, 1, H, W] gray or [N, 1, H, W, 3] RGB."""
    return np.array(frames[:, 0][..., None] if frames.ndim == 4 else frames[:, 0])


def _copy(rows: Rows) -> Rows:
    return {name: value.copy() for name, value in rows.items()}


@cache
def _games() -> dict[str, str]:
    """Id -> ROM name, for every single-player game that ale-py registers as version 5."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    registry = {id: spec for id, spec in gymnasium.registry.items() if re.fullmatch(r"ALE/\w+-v5", id)}
    return {id: spec.kwargs["game"] for id, spec in registry.items()}


def _ale_vector_env() -> Any:
    try:
        from ale_py import vector_env
    except ImportError:
        raise UserError("Atari games need ale-py; install it with: pip install 'reverie-rl[atari]'") from None
    return vector_env


def names() -> list[str]:
    """Ids of all games, or none where ale-py is not installed."""
    try:
        return sorted(_games())
    except ImportError:
        return []


def protocols(id: str) -> tuple[str, ...]:
    """The named Atari protocols, DreamerV2's first."""
    return tuple(PROTOCOLS)


def make(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """N streams of a game. options: any field of `AtariProtocol`, and `threads`.

    Raises UserError on an unknown game or option, or where ale-py is missing.
    """
    _ale_vector_env()
    if id not in _games():
        raise UserError(f"unknown environment {id!r}{suggest(id, _games())}")
    flags = annotated(AtariProtocol)
    check_options(id, options, {**flags, "threads": int})
    choices = replace(PROTOCOLS[protocol], **{name: value for name, value in options.items() if name in flags})
    _check_flags(id, choices)
    threads = options.get("threads", 0)
    if threads < 0:
        raise UserError(f"{id}: threads {threads} must be at least 0 (0: one per core)")
    return AtariVector(id, _games()[id], num_envs, protocol, choices, threads=threads)


def whole(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options, but that a lost life ends nothing: memory and stacked frames go on to the end of the game."""
    return {**options, "life_loss": False}


def make_drawn(id: str, num_envs: int, protocol: str, options: Mapping[str, Any]) -> VectorEnv:
    """As `make`, with the screens of the games."""
    env = make(id, num_envs, protocol, options)
    assert isinstance(env, AtariVector)
    return env.draw()


def _check_flags(id: str, flags: AtariProtocol) -> None:
    if flags.size < 8 or flags.frame_skip < 1 or flags.noop_max < 0 or flags.max_frames < flags.frame_skip:
        raise UserError(
            f"{id}: size {flags.size} must be at least 8, frame_skip {flags.frame_skip} at least 1, noop_max "
            f"{flags.noop_max} at least 0 and max_frames {flags.max_frames} at least frame_skip"
        )
    if not 0.0 <= flags.sticky < 1.0:
        raise UserError(f"{id}: sticky {flags.sticky} is a probability below 1")
