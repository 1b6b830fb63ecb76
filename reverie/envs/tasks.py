"""Several environments whose streams are played side by side, so that one network learns all of them.

::

    id   A,B        stream    0   1   2   3   4   5        stream i is of task i mod 2
                    task      A   B   A   B   A   B        obs.task 0, 1, 0, ...: for learners, policies do not see it

All see the same observations. Discrete actions may differ in number: the largest set is everybody's, and where a task
has fewer, ``obs.action_mask`` forbids the rest. (Atari's games have one set of 18 with ``full_actions``.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.rows import ACTION_MASK, OBS, TASK, Rows, observations, row_spec
from reverie.envs.adapter import Adapter, of_rows
from reverie.envs.env import EnvSpec, ResumeError, Step, VectorEnv, close_all, shut
from reverie.envs.wrappers import Carried
from reverie.errors import UserError

APART = "several environments that one network plays"
VECTOR = "vector"
"""name of observations that were laid end to end"""


def ids(id: str) -> tuple[str, ...]:
    """The environments that an id names, with commas between them. Raises UserError for an empty or a repeated one."""
    named = tuple(one.strip() for one in id.split(","))
    if len(named) > 1:
        labels = [label(one) for one in named]
        for one in labels:
            if not one or labels.count(one) > 1:
                raise UserError(f"{id!r} must name different environments with a comma between two, as in A,B")
    return named


def tasks_of(id: str) -> tuple[str, ...]:
    """The tasks of an id: none where it names one environment."""
    named = ids(id)
    return named if len(named) > 1 else ()


def label(task: str) -> str:
    """A task's id as a part of a metric's name, which has no signs but these."""
    return re.sub(r"[^\w.-]", "_", task)


def check_shares(id: str, streams: int, actors: int = 0) -> None:
    """Raise UserError where the streams of a run cannot be shared out equally over tasks, and actors if there are some.

    actors: processes that share the streams; 0: there is one.
    """
    tasks = tasks_of(id)
    share = max(1, len(tasks)) * max(1, actors)
    if tasks and streams % share:
        among = f"{len(tasks)} environments" + (f" in each of {actors} actors" if actors else "")
        raise UserError(
            f"{streams} streams cannot be shared out equally over {among}: set env.num_envs to a multiple of {share}, "
            f"for example {-(-streams // share) * share}"
        )


class Tasks(VectorEnv):
    """`num_envs` streams of the environments `named`, of which `make` makes so many streams at a time.

    What wrappers carry is carried by task. A task without a stream is made for its spaces only, and closed.
    Where one task's environment raises when others have stepped already, a state of before the step cannot be given:
    the state that is given then cannot be loaded (`ResumeError`), so that whoever resumes closes the open episodes.

    Raises UserError for one that does not see, or do, what the others do, and cannot be padded to it.
    """

    def __init__(self, named: Sequence[str], num_envs: int, make: Callable[[str, int], VectorEnv]) -> None:
        self.num_envs = num_envs
        self.streams = [np.arange(task, num_envs, len(named)) for task in range(len(named))]
        """of each task"""
        self.envs: list[VectorEnv] = []
        try:
            for one, streams in zip(named, self.streams, strict=True):
                self.envs.append(make(one, max(1, len(streams))))
            specs = [env.spec for env in self.envs]
            self.spec, self._joins = common(named, specs), not _alike(specs)
        except BaseException:
            self.close()
            raise
        for env in self.envs[num_envs:]:
            shut(env)
        del self.envs[num_envs:]
        self._actions = [getattr(env.spec.action, "n", 0) for env in self.envs]
        self.render_fps = self.envs[0].render_fps
        names = [tuple(env.action_names) for env in self.envs]
        self.action_names = names[0] if len(set(names)) == 1 else ()
        self._torn = False

    @property
    def adapter(self) -> Adapter:
        """Adapter of rows, for observations without the number of the task."""
        return of_rows({key: space for key, space in self.spec.observation.items() if key != TASK}, self.spec.action)

    def reset(self, seed: int) -> Rows:
        """First rows of all streams; each task has a seed of its own, made of `seed` and the task's number."""
        seeds = [int(np.random.SeedSequence([int(seed), task]).generate_state(1)[0]) for task in range(len(self.envs))]
        self._torn = False
        return self._joined([env.reset(own) for env, own in zip(self.envs, seeds, strict=True)])

    def step(self, action: np.ndarray) -> Step:
        """Rows after one step of every task; see `VectorEnv.step`."""
        self.check_action(action)
        steps: list[Step] = []
        for task, (env, streams) in enumerate(zip(self.envs, self._of_tasks(), strict=True)):
            own = action[streams][:, : self.spec.widths[task]] if self.spec.widths else action[streams]
            try:
                steps.append(env.step(own))
            except UserError:  # its environment raised, or it has fewer actions
                self._torn = bool(steps)
                raise
        rows = self._joined([step.rows for step in steps])
        ends, at = [], []
        info: dict[int, Mapping[str, float]] = {}
        lost: list[np.ndarray] = []
        for task, (step, streams) in enumerate(zip(steps, self._of_tasks(), strict=True)):
            if step.ends is not None and step.streams is not None:
                ends.append(self._told(step.ends, task))
                at.append(streams[step.streams])
            info |= {int(streams[own]): said for own, said in step.episode_info.items()}
            lost += [] if step.lost is None else [streams[step.lost]]
        closing = {name: np.concatenate([each[name] for each in ends]) for name in ends[0]} if ends else None
        over = np.concatenate(at) if at else None
        return Step(rows, closing, over, info, np.sort(np.concatenate(lost)) if lost else None, self._earned(steps))

    def _earned(self, steps: Sequence[Step]) -> np.ndarray | None:
        """What was paid, where some task says so: what it says, and the other tasks' rewards."""
        if all(step.earned is None for step in steps):
            return None
        earned = np.zeros(self.num_envs)
        for step, streams in zip(steps, self._of_tasks(), strict=True):
            own = np.array(step.rows["reward"], np.float64) if step.earned is None else step.earned
            if step.earned is None and step.ends is not None:
                own[step.streams] = step.ends["reward"]
            earned[streams] = own
        return earned

    def _of_tasks(self) -> list[np.ndarray]:
        return self.streams[: len(self.envs)]

    def _told(self, rows: Rows, task: int) -> Rows:
        """Rows [M, ...] of a task as all tasks have them."""
        number = len(rows["reward"])
        if self._joins:
            rows = self._end_to_end(rows)
        if self.spec.action_mask:
            width = int(np.sum(getattr(self.spec.action, "nvec", getattr(self.spec.action, "n", 0))))
            mask = np.zeros((number, width), np.float32)
            own = self._actions[task] or width
            mask[:, :own] = rows[OBS + ACTION_MASK] if self.envs[task].spec.action_mask else 1.0
            rows = rows | {OBS + ACTION_MASK: mask}
        return rows | {OBS + TASK: np.full(number, task, np.int64)}

    def _end_to_end(self, rows: Rows) -> Rows:
        """Rows with all vectors as one, padded with zeros."""
        seen = observations(rows)
        vector = np.zeros((len(rows["reward"]), *(self.spec.observation[VECTOR].shape or ())), np.float32)
        laid = np.concatenate([value.reshape(len(vector), -1) for value in seen.values()], 1)
        vector[:, : laid.shape[1]] = laid
        return {name: value for name, value in rows.items() if not name.startswith(OBS)} | {OBS + VECTOR: vector}

    def _joined(self, rows: Sequence[Rows]) -> Rows:
        """Rows [N, ...] of all streams, of those of each task."""
        told = [self._told(own, task) for task, own in enumerate(rows)]
        order = np.argsort(np.concatenate(self._of_tasks()), kind="stable")
        return {name: np.concatenate([own[name] for own in told])[order] for name in told[0]}

    def carried(self) -> Carried | None:
        """What wrappers of each task's first environment carry, under the task's number."""
        told = {
            f"{task} {name}": state
            for task, env in enumerate(self.envs)
            for name, state in (env.carried() or {}).items()
        }
        return told or None

    def adopt(self, carried: Carried, keep: bool = True) -> None:
        """Have each task's environments carry what is theirs."""
        for task, env in enumerate(self.envs):
            own = {
                name.partition(" ")[2]: state for name, state in carried.items() if name.partition(" ")[0] == str(task)
            }
            if own or env.carried():
                env.adopt(own, keep)

    def metrics(self) -> dict[str, float]:
        """Those of the tasks, added up."""
        each = [env.metrics() for env in self.envs]
        return {name: sum(own.get(name, 0.0) for own in each) for name in dict.fromkeys(n for own in each for n in own)}

    def state_dict(self) -> dict[str, Any]:
        """The states of the tasks; of a step that came apart, see the class, none."""
        return {"tasks": None if self._torn else [env.state_dict() for env in self.envs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring every task back."""
        if state["tasks"] is None:
            raise ResumeError(f"{self.spec.id}: one environment raised when others had stepped already")
        for env, own in zip(self.envs, state["tasks"], strict=True):
            env.load_state_dict(own)
        self._torn = False

    def render(self) -> np.ndarray | None:
        """Picture of the first stream, which is of the first task."""
        return self.envs[0].render()

    def close(self) -> None:
        """Close all tasks; the error of the first that fails at that is raised when all are."""
        close_all(self.envs)


def common(named: Sequence[str], specs: Sequence[EnvSpec]) -> EnvSpec:
    """What all tasks see and do: the first one's observations and the task's number, and the largest of their actions.

    Raises UserError, naming two that differ, if there is no such thing.
    """
    first, resumes = specs[0], [spec.resume for spec in specs]
    pads = all(_pads(spec) for spec in specs)
    for spec in specs[1:]:
        _check_same(first, spec, pads)
    observation: dict[str, spaces.Space]
    if _alike(specs):
        observation = {key: _over([spec.observation[key] for spec in specs]) for key in _seen(first)}
    else:
        widest = max(sum(_width(space) for space in spec.observation.values()) for spec in specs)
        observation = {VECTOR: spaces.Box(-np.inf, np.inf, (widest,), np.float32)}
    action = max((spec.action for spec in specs), key=lambda space: int(getattr(space, "n", 0)))
    widths: tuple[int, ...] = ()
    if pads and any(spec.action != first.action for spec in specs):
        widths = tuple(_width(spec.action) for spec in specs)
        action = spaces.Box(-1.0, 1.0, (max(widths),), np.float32)
    masked = any(spec.action_mask for spec in specs)
    if isinstance(action, spaces.Discrete):
        masked = masked or any(spec.action != action for spec in specs)
    if masked and ACTION_MASK in observation:
        raise UserError(
            f"{APART} need a mask of actions, but {first.id} has an observation {ACTION_MASK!r} that is none; rename it"
        )
    if masked:
        width = int(np.sum(getattr(action, "nvec", getattr(action, "n", 0))))
        observation[ACTION_MASK] = spaces.Box(0.0, 1.0, (width,), np.float32)
    return replace(
        first,
        id=",".join(named),
        observation=observation | {TASK: spaces.Discrete(len(named))},
        action=action,
        protocol=first.protocol if len({spec.protocol for spec in specs}) == 1 else "several",
        flags={one: dict(spec.flags) for one, spec in zip(named, specs, strict=True)},
        resume="truncate" if "truncate" in resumes else resumes[0],
        action_mask=masked,
        tasks=tuple(named),
        widths=widths,
        random_score=None,
        optimal_score=None,
    )


def _pads(spec: EnvSpec) -> bool:
    """Whether a task sees vectors only, and acts in a vector: such tasks can be padded to the widest."""
    seen = [isinstance(space, spaces.Box) and space.dtype != np.uint8 for space in spec.observation.values()]
    return all(seen) and isinstance(spec.action, spaces.Box) and len(spec.action.shape) == 1


def _width(space: spaces.Space) -> int:
    return int(np.prod(space.shape or (), dtype=np.int64))


def _seen(spec: EnvSpec) -> dict[str, spaces.Space]:
    return {key: space for key, space in spec.observation.items() if key != ACTION_MASK or not spec.action_mask}


def _alike(specs: Sequence[EnvSpec]) -> bool:
    """Whether all tasks see vectors, images and numbers of the same names, shapes and dtypes."""
    first, *others = (row_spec(_seen(spec), spaces.Discrete(1)) for spec in specs)
    return all(other == first for other in others)


def _check_same(first: EnvSpec, other: EnvSpec, pads: bool) -> None:
    """Raise UserError if two tasks cannot be one network's. pads: whether all can be padded."""
    for spec in (first, other):
        if TASK in spec.observation:
            raise UserError(f"{spec.id} has an observation {TASK!r}, which is a name of ours among {APART}; rename it")
    if first.action_repeat != other.action_repeat:
        raise UserError(
            f"{APART} must count alike: an env_step is {first.action_repeat} frames of {first.id}, "
            f"{other.action_repeat} of {other.id}"
        )
    if pads:
        return
    seen = [_seen(spec) for spec in (first, other)]
    ours, theirs = (row_spec(observation, spaces.Discrete(1)) for observation in seen)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            had, has = (f"{f.dtype} {f.shape}" if f else "nothing" for f in (ours.get(name), theirs.get(name)))
            raise UserError(
                f"{APART} must look alike: {name.removeprefix(OBS)} is {had} in {first.id}, {has} in {other.id}; "
                "only vectors beside continuous actions are padded"
            )
    for key, space in seen[0].items():
        if not isinstance(space, spaces.Box) and space != seen[1][key]:
            raise UserError(f"{APART} must look alike: {key} is {space} in {first.id}, {seen[1][key]} in {other.id}")
    both = first.action, other.action
    discrete = all(isinstance(space, spaces.Discrete) for space in both)
    if not discrete and (type(both[0]) is not type(both[1]) or both[0] != both[1]):
        raise UserError(
            f"{APART} must have the same actions, or discrete ones: {first.id} has {both[0]}, {other.id} {both[1]}; "
            "only continuous ones beside vectors are padded"
        )


def _over(found: Sequence[spaces.Space]) -> spaces.Space:
    """The space of one observation in all tasks: boxes may have other bounds."""
    first = found[0]
    if not isinstance(first, spaces.Box) or all(space == first for space in found):
        return first
    low = np.min([space.low for space in found], 0)  # type: ignore[attr-defined]
    high = np.max([space.high for space in found], 0)  # type: ignore[attr-defined]
    return spaces.Box(low, high, dtype=first.dtype.type)
