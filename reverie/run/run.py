"""A run directory while somebody trains in it: clock, log, evaluations, checkpoints. It moves nothing itself.

A runner (`reverie.run.local`) decides what moves when; all runners share what is here. What is counted is counted where
it happens, env_steps in the store and learner_steps in the learner; the clock reads both.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from reverie import overrides
from reverie.agents.agent import Learner
from reverie.agents.learner import tensors_of
from reverie.config import Config
from reverie.envs.tasks import label, tasks_of
from reverie.envs.wrappers import Carried
from reverie.errors import UserError, notice
from reverie.nets.schedule import Length
from reverie.report.console import Console
from reverie.report.log import Logger
from reverie.report.record import as_name
from reverie.report.writer import Opening
from reverie.run.callback import Callback
from reverie.run.checkpoint import Checkpoints, misfit
from reverie.run.clock import Clock
from reverie.run.companions import Companions, flat_settings, gather
from reverie.run.evaluation import evaluate, rehearse
from reverie.run.ledger import Ended
from reverie.run.length import run_length
from reverie.run.lock import Stop
from reverie.run.telling import Pace, Waiting, opening_lines, size_lines


class Stateful(Protocol):
    """Part of a run that has a state."""

    def state_dict(self) -> dict[str, Any]:
        """State, all of it."""

    def load_state_dict(self, state: Any) -> None:
        """Inverse of `state_dict`."""


class Run:
    """Log and checkpoints of one run, in its directory.

    Use it as a context: it opens the log. total: env_steps of the whole run. summary: of the last evaluation. stop: the
    request to save and end, which evaluations look for too, and which is made here when nobody reads the output.
    since: see `reverie.run.length.run_length`. companions: beside metrics.jsonl and the terminal.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        clock: Clock,
        since: Length | None = None,
        companions: Companions | None = None,
    ) -> None:
        self.config, self.run_dir, self.clock, self.since = config, run_dir, clock, since
        self.tasks = tasks_of(config.env.id)
        self.companions = companions or gather(config.log)
        self.total = run_length(config, clock.repeat).env_steps
        self.given: int | None = None
        """rows of the dataset that it learns from; None: it acts"""
        self.checkpoints = Checkpoints(run_dir, config.run.keep_checkpoints)
        self.finished_at = self.saved_at = -1
        self.learned_at = -1
        """learner_steps of what is saved"""
        self.summary: dict[str, Any] = {}
        self.stop = Stop()
        self._waiting = Waiting(config, clock)
        self.owed = False
        """whether an evaluation is due that has not been played to its end; a resumed run plays it"""
        self.cut_since: int | None = None
        """env_steps before a round that was asked to end between two of its learner_steps; a resumed run begins with
        those that are left"""
        self.resumed: tuple[int, int] | None = None
        """where the log goes on, in bytes, and the frames there; None in a run that begins"""
        self._telling = False
        self._taken: set[str] = set()
        """names of ours that the environment uses too, said once"""
        self.begun = False
        """whether its log has begun: from then on it may have moved"""
        self.carried: Callable[[], Carried | None] = lambda: None
        """by the wrappers of the environments that are trained on, which evaluations take over"""

    def heeding(self, stop: Stop) -> Run:
        """The run itself, with a request to save and end that it looks for."""
        self.stop = stop
        return self

    def __enter__(self) -> Run:
        offset, frames = self.resumed or (0, None)
        title = f"{self.config.name} on {self.config.env.id}"
        repeat, prefill = self.clock.repeat, self.config.run.prefill
        console = Console(self.total * repeat, title, prefill=prefill * repeat, closed=self.stop.ask)
        lines = [f"goes on after {self.clock.env_steps:,} of {self.total:,} env_steps"]
        if self.resumed is None:
            lines = opening_lines(self.config, self.clock, self.total, self.since)
            lines += size_lines(self.clock, self.total, self.given)
        for line in lines:
            console.say(line)
        self._console, self._pace = console, Pace(self.total)
        settings = flat_settings(overrides.to_dict(self.config))
        self.logger = Logger(self.run_dir, [*self.companions.writers, console])
        try:
            self.logger.truncate_after(offset)
            self.logger.begin(Opening(self.run_dir, title, settings, frames))
            for callback in self.companions.callbacks:
                callback.begin(self)
        except BaseException:
            self.logger.close()
            raise
        self._before = self.clock.env_steps if self.cut_since is None else self.cut_since
        self._mark()
        self.begun = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                for callback in self.companions.callbacks:
                    callback.end(self)
        finally:
            self.logger.close()

    @property
    def learner(self) -> Learner:
        """The learner; its ``policy`` acts."""
        return self.clock.learner

    @property
    def finished(self) -> bool:
        """Whether all env_steps have been made, and the learner_steps that are due with them."""
        return self.clock.env_steps >= self.total and self.cut_since is None

    @property
    def complete(self) -> bool:
        """Whether the last evaluation has been made too, and is in a checkpoint."""
        return self.finished_at == self.clock.env_steps

    def due(self, what: Literal["log", "eval", "checkpoint"]) -> bool:
        """Whether a multiple of ``<what>_every`` env_steps was passed since the last `tick`.

        At the end a log is due, if any ever was to be, with what came since the last one; nothing else is.
        """
        every = getattr(self.config.run, f"{what}_every")
        return bool(every) if what == "log" and self.finished else not self.finished and self.passed(every)

    def passed(self, every: int) -> bool:
        """Whether a multiple of `every` env_steps was passed since the last `tick`; never if it is 0."""
        return bool(every) and self.clock.env_steps // every > self._before // every

    def cut(self) -> None:
        """Note that a round ends before all of its learner_steps are made."""
        self.cut_since = self._before

    def tick(self) -> None:
        """Note that a round of the runner is over."""
        self._before = self.clock.env_steps

    def tell(self) -> None:
        """Tell the callbacks of a round: before its checkpoint, which holds what they make of it."""
        for callback in self.companions.callbacks:
            callback.round(self)

    # What is recorded

    def record(self, metrics: Mapping[str, float]) -> None:
        """Write one line of the log, now, and tell the callbacks."""
        record = self.logger.log(metrics, **self._units())
        if not self._telling:
            self._telling = True
            try:
                for callback in self.companions.callbacks:
                    callback.record(self, record)
            finally:
                self._telling = False

    def pictures(self, name: str, pictures: np.ndarray) -> None:
        """Show a picture or a film, uint8 [T, H, W, 1 or 3], to the writers."""
        self.logger.pictures(name, pictures, **self._units())

    def histogram(self, name: str, values: Any) -> None:
        """Show how numbers are distributed, a tensor or an array, to the writers."""
        self.logger.histogram(name, values, **self._units())

    def _units(self) -> dict[str, int]:
        clock = self.clock
        return {"env_steps": clock.env_steps, "frames": clock.frames, "learner_steps": clock.learner_steps}

    def episodes(self, ended: list[Ended], info: Mapping[int, Mapping[str, float]]) -> None:
        """Write a line for each episode that ended. info: what the environment says of it, by stream."""
        for stream, score, length in ended:
            more = {f"episode/{self._free(name)}": value for name, value in info.get(stream, {}).items()}
            if self.tasks:
                more[f"task/{label(self.tasks[stream % len(self.tasks)])}/score"] = score
            self.record({"episode/score": score, "episode/length": length, **more})

    def _free(self, name: str) -> str:
        """A name that an environment gives to a measure of its own; it does not take that of one of ours."""
        if name in ("score", "length"):
            if name not in self._taken:
                self._taken.add(name)
                notice(f"{self.config.env.id} tells of its episodes' {name!r}: it is logged as episode/env_{name}")
            return f"env_{name}"
        return as_name(name)

    def log(self, **metrics: Mapping[str, float]) -> None:
        """Write one line of what the parts of a run tell, ``<part>/<name>``, with the speeds since the last one."""
        line = {f"{part}/{as_name(name)}": value for part, told in metrics.items() for name, value in told.items()}
        seconds = time.perf_counter() - self._since
        env_steps, learner_steps = (now - then for now, then in zip(self._counts(), self._at, strict=True))
        line["speed/env_steps_per_s"], line["speed/learner_steps_per_s"] = env_steps / seconds, learner_steps / seconds
        self.record(line)
        self._mark()
        if line_of_pace := self._pace.line(time.perf_counter(), *self._counts()):
            self._console.say(line_of_pace)
        self._waiting.look(env_steps, learner_steps, acts=self.given is None)

    def _counts(self) -> tuple[int, int]:
        return self.clock.env_steps, self.clock.learner_steps

    def _mark(self) -> None:
        self._since = time.perf_counter()
        self._at = self._counts()

    def rehearse(self) -> None:
        """See `reverie.run.evaluation.rehearse`."""
        rehearse(self.config, self.carried())

    def evaluate(self, learner: Learner) -> None:
        """Play greedily on fresh environments and log the scores; does not disturb training. The best is kept.

        One that is asked to stop logs nothing and is owed.
        """
        if self.config.run.eval_episodes < 1:
            self.owed = False
            return
        self.owed = True
        began = time.perf_counter()
        played = evaluate(self.config, learner.policy, self.clock.env_steps, self.carried(), self.stop)
        if played is None:
            return
        self.owed, self.summary = False, played.summary
        self.record({**played.metrics, "time/eval_s": time.perf_counter() - began})
        self._keep_best(learner)

    # What is kept

    def _keep_best(self, learner: Learner) -> None:
        """Keep the networks that have just been evaluated, if they are the best so far (``run.keep_best``)."""
        if not self.config.run.keep_best:
            return
        counts = {"env_steps": self.clock.env_steps, "frames": self.clock.frames}
        counts |= {"learner_steps": self.clock.learner_steps}
        told = {} if (carried := self.carried()) is None else {"carried": carried}
        networks = {"trainer": {"learner": {"tensors": tensors_of(learner)}}}
        try:
            self.checkpoints.save_best(self.summary["eval_score"], counts | networks | told)
        except UserError as error:  # what was trained so far is worth more
            notice(str(error))

    def save(self, parts: Mapping[str, Stateful], **more: Any) -> None:
        """Write a durable checkpoint of the runner's parts, of `more`, and of what is counted here."""
        self.logger.sync()
        clock = self.clock
        tree = {
            "env_steps": clock.env_steps,
            "frames": clock.frames,
            "learner_steps": clock.learner_steps,
            "finished_at": self.finished_at,
            "summary": self.summary,
            "owed": self.owed,
            "offset": self.logger.offset(),
        }
        told = {key: state for key, callback in self._by_key().items() if (state := callback.state_dict())}
        tree |= {"callbacks": told} if told else {}
        tree |= {} if self.cut_since is None else {"cut_since": self.cut_since}
        tree |= {} if (carried := self.carried()) is None else {"carried": carried}
        self.checkpoints.save(clock.env_steps, tree | {name: part.state_dict() for name, part in parts.items()} | more)
        self.saved_at, self.learned_at = clock.env_steps, clock.learner_steps
        for callback in self.companions.callbacks:
            callback.saved(self, self.checkpoints.folder / str(clock.env_steps))

    @property
    def saved(self) -> bool:
        """Whether a checkpoint holds all that was made: many learner_steps may follow on the same env_steps."""
        return (self.saved_at, self.learned_at) == (self.clock.env_steps, self.clock.learner_steps)

    def _by_key(self) -> dict[str, Callback]:
        """Callbacks by their class, and by their number among those of one class."""
        keyed: dict[str, Callback] = {}
        for callback in self.companions.callbacks:
            name = f"{type(callback).__module__}:{type(callback).__qualname__}"
            keyed[f"{name} {sum(key.startswith(f'{name} ') for key in keyed)}"] = callback
        return keyed

    def finish(self, learner: Learner, save: Callable[[], None]) -> None:
        """Evaluate a run that has made all env_steps, which are saved, and save once more with that.

        Raises UserError if it has made no learner_step: what it would be evaluated with was never trained.
        """
        if not self.finished or self.complete:
            return
        if not self.clock.learner_steps:
            raise UserError(
                f"nothing was trained: all {self.clock.env_steps} env_steps were made, and no batch of "
                f"{self.config.replay.batch} windows of {self.clock.window} rows could be drawn; they are saved in "
                f"{self.run_dir}: go on with a longer run, or begin another with smaller windows"
            )
        self.evaluate(learner)
        if not self.owed:
            self.finished_at = self.clock.env_steps
            save()

    def result(self) -> dict[str, Any]:
        """Summary of the run; one that was stopped says, on standard error, how to go on."""
        clock = self.clock
        if self.stop.reason and not self.complete:
            left = f"{self.total - clock.env_steps} env_steps"
            if clock.env_steps >= self.total:
                left = "its last evaluation" if self.finished else "its last learner_steps"
            notice(
                f"{self.stop.reason}: saved after {clock.env_steps} env_steps, {left} to go; "
                f"go on with: reverie resume {shlex.quote(str(self.run_dir))}"
            )
        counts = {"env_steps": clock.env_steps, "frames": clock.frames, "finished": self.complete}
        return counts | ({"stopped": self.stop.reason} if self.stop.reason and not self.complete else {}) | self.summary

    def restore(self, parts: Mapping[str, Stateful], then: Callable[[dict[str, Any]], None]) -> None:
        """Return to the newest checkpoint, part by part; without one the run begins anew.

        then: what follows, given the whole checkpoint. Nothing of it stays in memory.
        Raises UserError if the checkpoint does not fit, or there was one and it has gone.
        """
        self.checkpoints.check_kept()
        if self.checkpoints.latest() is None:
            return
        tree = self.checkpoints.load()
        try:
            for name, part in parts.items():
                part.load_state_dict(tree[name])
            self.finished_at, self.summary, self.saved_at = tree["finished_at"], tree["summary"], tree["env_steps"]
            self.learned_at = tree["learner_steps"]
            self.owed, self.cut_since = tree.get("owed", False), tree.get("cut_since")
            self.resumed = (tree["offset"], tree["frames"])
            told = tree.get("callbacks", {})
            for key, callback in self._by_key().items():
                if key in told:
                    callback.load_state_dict(told[key])
            then(tree)
        except (KeyError, IndexError, RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):  # that says nothing of the checkpoint
                raise
            raise misfit(self.checkpoints.latest(), error) from error
