"""The runner that learns from a dataset: all rows are there from the beginning, and nobody acts.

::

    dataset (chunk files, Minari) - once -> store ----> feed ----> learner
                                            |
                                          record: the run keeps a copy, and needs the dataset no more

Its clock counts the env_steps that an online run with as many learner_steps would have made, by ``run.train_ratio``;
so lengths, schedules, and what is due when mean the same, and curves lie beside each other. Evaluations are played in
the environment. A checkpoint is as exact as the local runner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from reverie.agents.learner import Learner
from reverie.config import Config, EnvConfig
from reverie.data.dataset import Dataset, open_dataset
from reverie.data.limiter import Limiter
from reverie.data.rows import OBS, TASK, Rows
from reverie.data.sequences import Chunk
from reverie.data.store import Store
from reverie.envs.env import shut
from reverie.envs.tasks import tasks_of
from reverie.envs.wrappers import Carried
from reverie.errors import UserError, notice
from reverie.report.writer import Writer
from reverie.run.build import build_env, build_limiter, derive
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.checkpoint import Checkpoints
from reverie.run.clock import Clock, Counted
from reverie.run.length import run_length
from reverie.run.minari import MinariDataset, Source, is_minari
from reverie.run.preflight import check_draws
from reverie.run.relabel import played_rewards
from reverie.run.runner import Runner
from reverie.run.saved_config import load_config
from reverie.run.tree import load_tree

ALONE = ("publish_every", "overlap")
"""Settings of a run that say how learning and acting go together."""


def for_dataset(config: Config, begun: Path | None = None) -> Config:
    """The configuration with as many streams as its dataset has, and nobody who acts; as it is without a dataset.

    begun: directory of the run that goes on with it, if there is one: it has its own copy of the rows.
    Raises UserError if the dataset cannot be read, or with settings that ask for somebody who acts.
    """
    if not config.dataset.path:
        return config
    if config.ray.actors:
        raise UserError(f"nobody acts where a run learns from a dataset: ray.actors must be 0, got {config.ray.actors}")
    if config.run.train_ratio is None or config.replay.selector.uses_up:
        raise UserError(f"{config.name} learns every row once, as it is acted: it cannot learn from a dataset")
    path = config.dataset.path
    saved = load_config(begun) if begun is not None else None
    if saved is not None and saved.dataset.path == path:
        streams = saved.env.num_envs
    else:
        streams = 1 if is_minari(path) else len(open_dataset(path).streams)
    asked = {name: value for name in ALONE if (value := getattr(config.run, name))}
    if asked:
        told = ", ".join(f"run.{name} {value}" for name, value in asked.items())
        notice(f"nobody acts where a run learns from a dataset: {told} would change nothing, and is 0")
    run = replace(config.run, publish_every=0, overlap=0)
    return replace(config, env=replace(config.env, num_envs=streams), run=run)


def env_beside(dataset: Dataset) -> EnvConfig | None:
    """The environment of the run that rows lie in; None where they lie alone."""
    try:
        return load_config(dataset.folder.parent).env
    except UserError:
        return None


def check_tasks(dataset: Dataset, theirs: EnvConfig, id: str) -> None:
    """Raise UserError where rows are not of the environments that `id` names in their order.

    Rows of several environments have their numbers, no names.
    """
    ours = tasks_of(id)
    if ours and tasks_of(theirs.id) != ours:
        raise UserError(f"{dataset.folder} has rows of {theirs.id}, not of {id}: name its environments, in their order")


def tell_others(dataset: Dataset, theirs: EnvConfig, env: EnvConfig) -> None:
    """A notice where rows come from another environment than the run's: that may be meant."""
    names = ["id", "options", *([] if "auto" in (theirs.protocol, env.protocol) else ["protocol"])]
    names = [name for name in names if getattr(theirs, name) != getattr(env, name)]
    if names:
        told = ", ".join(f"{name} is {getattr(theirs, name)!r} there, {getattr(env, name)!r} here" for name in names)
        notice(f"the rows of {dataset.folder} are of another environment: {told}")


class OfflineClock(Clock):
    """Clock whose env_steps follow from the learner_steps, see the module: at first those of the prefill."""

    def __init__(self, store: Counted, learner: Learner, repeat: int, config: Config) -> None:
        super().__init__(store, learner, repeat)
        assert config.run.train_ratio is not None
        self._rows = config.replay.batch * config.replay.window.learn
        self._ratio, self._run = config.run.train_ratio, config.run

    @property
    def env_steps(self) -> int:
        """Decisions that would have been taken so far."""
        paid = max(self.learner_steps - self._run.pretrain, 0) * self._rows / self._ratio
        return self._run.prefill + int(paid)


class Offline(Runner):
    """The parts of a run without an actor. Arguments as in `Runner`; the configuration is one of `for_dataset`.

    Raises UserError if the dataset is not of this environment, or lacks what the agent reads.
    """

    store: Store

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        env = build_env(config, 1)
        env.reset(derive(config.run.seed, "dataset"))  # only then wrappers tell what they carry
        self.env, self._carried = env, env.carried()
        shut(env)
        self.rows: Source | None = None
        """to learn from, in a run that begins"""
        super().__init__(config, run_dir, env.spec, chain, writers, callbacks)
        # Rows are drawn for as long as the run is to learn; its clock says how long that is.
        self.store.limiter = Limiter(None, 0)
        self.run.carried = lambda: self._carried

    def preflight(self) -> None:
        """Raise UserError if the run ends where it begins; `start` looks at the rows, which are there."""
        check_draws(self.config, self.agent)
        total, prefill = run_length(self.config, self.agent.env.action_repeat).env_steps, self.config.run.prefill
        if prefill >= total:
            raise UserError(
                f"nothing would be trained: env_steps are counted from run.prefill, {prefill}, on, and the run has "
                f"{total}; make it longer (--env_steps, --frames), or run.prefill smaller"
            )

    def clock(self, repeat: int) -> Clock:
        """The clock that nobody's decisions drive."""
        return OfflineClock(self.store, self.learner, repeat, self.config)

    def begin(self) -> None:
        """As of all runs; a dataset that does not fit is said before anything is written."""
        super().begin()
        self.rows = self.source()
        self.run.given = len(self.rows)
        if self.config.dataset.rewards == "played" and not isinstance(self.rows, Dataset):
            raise UserError(
                f"{self.rows.folder} cannot be played again: dataset.rewards = played needs a run's replay/"
            )
        if self._carried is not None:
            self._carried = self._carried_beside(self.rows)
        for stream, name in enumerate(self.rows.streams):
            for chunk in islice(self.rows.chunks(name), 1):
                self._ours(chunk, stream, 0)

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Have evaluations carry what they did."""
        self._carried = tree.get("carried", self._carried)

    def _carried_beside(self, rows: Source) -> Carried | None:
        """What the wrappers of the run that the rows are of carried at last; it is said where nobody knows."""
        if isinstance(rows, Dataset) and (folder := Checkpoints(rows.folder.parent).latest()) is not None:
            told = load_tree(folder, ("carried/",)).get("carried")
            if told is not None:  # of other wrappers: the rehearsal of an evaluation refuses it
                return cast(Carried, told)
        notice(
            f"wrappers of {self.config.env.id} remember running means, and {rows.folder} does not say which its rows "
            "were made with: evaluations begin with fresh ones"
        )
        return self._carried

    def start(self) -> None:
        """Fill the store, in a run that begins."""
        if self.run.resumed is not None:
            return
        dataset = self.rows or self.source()
        self.fill(dataset)
        self.store.outdated()
        held, rows = len(self.store.replay), len(dataset)
        if held < rows:
            notice(
                f"the replay holds the newest {held:,} of the {rows:,} rows of {dataset.folder}; "
                "give it more with --replay.store.budget"
            )
        if not self.store.may_sample(self.config.replay.batch):
            raise UserError(
                f"nothing can be learned from {dataset.folder}: its {rows:,} rows have no window of "
                f"{self.learner.windows.length} rows; use shorter ones (replay.window)"
            )
        self.save()  # from here on the dataset is not needed

    def source(self) -> Source:
        """The rows to learn from. Raises UserError where they are not of this environment."""
        path = self.config.dataset.path
        if is_minari(path):
            return MinariDataset(path, self.env)
        dataset = open_dataset(path)
        if (theirs := env_beside(dataset)) is not None:
            check_tasks(dataset, theirs, self.config.env.id)
            if self.config.dataset.rewards != "played":
                tell_others(dataset, theirs, self.config.env)
        return dataset

    def fill(self, dataset: Source) -> None:
        """Put all rows of the dataset into the store; stream k of the run is the k-th stream of the dataset.

        Raises UserError where rows or states are not such as the store takes.
        """
        again = None
        if self.config.dataset.rewards == "played" and isinstance(dataset, Dataset):  # see `begin`
            again = played_rewards(dataset, self.config)
        for stream, name in enumerate(dataset.streams):
            start = 0
            for chunk in dataset.chunks(name):
                if again is not None:
                    paid = again[stream][start : start + len(chunk)]
                    chunk = replace(chunk, rows={**chunk.rows, "reward": paid})
                ours = self._ours(chunk, stream, start)
                try:
                    self.store.add_chunk(ours)
                except ValueError as error:  # states of other networks, or an episode that was left in its middle
                    raise UserError(f"{dataset.folder}: rows of stream {name} cannot be taken: {error}") from error
                start += len(chunk)

    def _ours(self, chunk: Chunk, stream: int, start: int) -> Chunk:
        """A chunk of the dataset as the store takes it: fields that the agent reads, at its place in the stream."""
        windows, states = self.learner.windows, None
        if windows.keeps_states:
            if self.config.dataset.rewards == "played":
                raise UserError(
                    "states in a dataset are of the rewards that were seen: with dataset.rewards = played say "
                    "--replay.window.state zero and --replay.window.drift false"
                )
            if chunk.states is None or (chunk.start - start) % windows.period:
                raise UserError(
                    f"{self.config.dataset.path} has no states of {self.config.name} at every {windows.period} rows: "
                    "say --replay.window.state zero and --replay.window.drift false"
                )
            states = chunk.states
        return Chunk(stream, start, self._fields(chunk.rows), None, states, chunk.version)

    def _fields(self, rows: Rows) -> Rows:
        """The fields of the spec. Raises UserError where they are not there, or are something else."""
        spec, where, id = self.store.replay.spec, self.config.dataset.path, self.config.env.id
        task = rows.get(OBS + TASK)
        if task is not None and OBS + TASK not in spec:
            raise UserError(f"{where} has rows of several environments, {id} is one: name all of them, in their order")
        if task is not None and (tasks := tasks_of(id)) and int(task.max()) >= len(tasks):
            raise UserError(f"{where} has rows of {int(task.max()) + 1} environments or more, {id} names {len(tasks)}")
        for name, field in spec.items():
            value = rows.get(name)
            if value is None:
                raise UserError(f"{where} has no {name}, which {self.config.name} reads; it has {', '.join(rows)}")
            if (value.shape[1:], value.dtype) != (field.shape, field.dtype):
                raise UserError(
                    f"{where} has {name} as {value.dtype} {value.shape[1:]}, {id} gives "
                    f"{field.dtype} {field.shape}: name the environment, protocol and options that it is of"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise UserError(f"{where} has numbers in {name} that are not finite: leave those rows out")
        self._check_numbers(rows)
        return {name: np.ascontiguousarray(rows[name]) for name in spec}

    def _check_numbers(self, rows: Rows) -> None:
        """Raise UserError where an action or an observation is a number that the environment does not have."""
        env, where, id = self.agent.env, self.config.dataset.path, self.config.env.id
        numbered = {"action": env.action, "prev_action": env.action}
        numbered |= {OBS + key: space for key, space in env.observation.items()}
        for name, space in numbered.items():
            if name not in rows or not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
                continue
            count = space.n if isinstance(space, spaces.Discrete) else space.nvec
            if ((rows[name] < 0) | (rows[name] >= count)).any():
                there = f"{int(rows[name].min())} to {int(rows[name].max())}"
                raise UserError(
                    f"{where} has {name} of {there}, {id} has {space}: name the environment, protocol and options that "
                    "it is of"
                )

    def act(self) -> None:
        """Nobody acts."""

    def learn(self) -> None:
        """Make one learner_step; before a checkpoint also those that were drawn ahead, for they move the clock."""
        self.trainer.learn(at_most=1)
        if self.run.due("checkpoint"):
            self.trainer.drain()

    def kept(self) -> dict[str, float]:
        """As with an actor; the ratio is to the decisions that are counted, not to those of the dataset."""
        pacing = build_limiter(self.config, self.learner.windows)
        ratio = pacing.achieved(self.run.clock.env_steps, self.store.replay.sampled_rows)
        return super().kept() | {"ratio": ratio}

    def metrics(self) -> dict[str, float]:
        """Nothing: nobody acts."""
        return {}
