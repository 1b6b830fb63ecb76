"""The local runner: one process, one vector environment, deterministic round robin of actor and trainer.

Bit-reproducible on a CPU under a seed, and exact across interruptions: a checkpoint holds everything that the next
row, batch or update depends on, so that a killed run resumed from its last checkpoint writes the very metrics that an
uninterrupted one writes (clock readings aside). Rows are sealed to disk as they come; see `reverie.data.disk`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from reverie.config import Config
from reverie.data.disk import ChunkWriter, refill
from reverie.data.limiter import Limiter
from reverie.data.rows import Rows, State
from reverie.envs.env import ResumeError
from reverie.errors import UserError
from reverie.report.console import Console
from reverie.report.log import Logger, TensorBoard
from reverie.run.allocator import keep_freed_memory
from reverie.run.build import build_env, build_learner, build_replay, derive, pick_device
from reverie.run.checkpoint import Checkpoints, misfit
from reverie.run.length import schedule_line
from reverie.run.roles import Actor, Evaluator, Prioritiser, Trainer
from reverie.run.saved_config import load_config, save_config


def train(config: Config, run_dir: str | Path) -> dict[str, Any]:
    """Begin a run in a new directory and train to its end. Returns the summary of `LocalRun.run`."""
    run_dir = Path(run_dir)
    if (run_dir / "config.json").exists():
        raise UserError(
            f"{run_dir} already holds a run; go on with `reverie resume {run_dir}` or name another --logdir"
        )
    if (run_dir / "checkpoints").exists() or (run_dir / "metrics.jsonl").exists():
        raise UserError(
            f"{run_dir} holds what a run has recorded but no config.json; restore that file or name another --logdir"
        )
    with _interruptible() as stop:
        run = LocalRun(config, run_dir)
        with _alone(run_dir):
            try:
                save_config(config, run_dir)
            except OSError as error:
                raise UserError(f"cannot write {run_dir}/config.json: {error.strerror}") from error
            if line := schedule_line(config, run.env.spec):
                print(line)
            return run.run(stop)


def resume(run_dir: str | Path) -> dict[str, Any]:
    """Go on from the newest checkpoint (from the start if there is none yet), exactly."""
    run_dir = Path(run_dir)
    config = load_config(run_dir)
    with _interruptible() as stop:
        run = LocalRun(config, run_dir)
        with _alone(run_dir):
            run.restore()
            return run.run(stop)


class LocalRun:
    """The parts of a run and the order in which they move."""

    def __init__(self, config: Config, run_dir: Path) -> None:
        self.config, self.run_dir = config, run_dir
        options = config.run
        keep_freed_memory()
        if options.threads:
            torch.set_num_threads(options.threads)
        self.device = pick_device(options.device)
        self.env = build_env(config)
        self.repeat = self.env.spec.action_repeat
        self.learner = build_learner(config, self.env.spec, self.device)
        self.replay = build_replay(config, self.env.spec, self.learner)
        try:
            self.writer = ChunkWriter(
                run_dir / "replay",
                self.replay.spec,
                config.env.num_envs,
                config.replay.store.chunk,
                self.replay.state_spec,
                self.learner.spec.period,
            )
        except OSError as error:
            raise UserError(f"cannot write in {run_dir}: {error.strerror}; name another --logdir") from error
        self.actor = Actor(self.env, self.learner.policy, self._store, derive(options.seed, "actor"))
        self.trainer = Trainer(self.learner, self.replay, config.replay.batch, options.capture)
        self.prioritiser = Prioritiser(self.learner, self.replay)
        self.limiter = Limiter(options.train_ratio, options.prefill)
        self.checkpoints = Checkpoints(run_dir, options.keep_checkpoints)
        self.env_steps = 0
        self.pretrained = False
        self.finished_at = -1
        self.saved_at = -1
        self.summary: dict[str, Any] = {}
        self.resumed: dict[str, Any] | None = None
        self.safe_to_evict = np.zeros(config.env.num_envs, np.int64)

    @property
    def frames(self) -> int:
        """Frames so far, over all streams."""
        return self.env_steps * self.repeat

    def run(self, stop: dict[str, bool]) -> dict[str, Any]:
        """Train until `run.frames` or until stopped, checkpointing on the way and at the end."""
        options = self.config.run
        total = options.env_steps or -(-options.frames // self.repeat)
        title = f"{self.config.name} on {self.config.env.id}"
        resumed_at = self.resumed["frames"] if self.resumed else None
        with Logger(
            self.run_dir, [TensorBoard(self.run_dir, resumed_at), Console(total * self.repeat, title)]
        ) as logger:
            self.logger = logger
            if self.resumed:
                logger.truncate_after(self.resumed["offset"])
            else:
                logger.truncate_after(0)
                self._episodes(self.actor.start())
            self._mark()
            while self.env_steps < total and not stop["now"]:
                before = self.env_steps
                self.act()
                self.learn()
                if _crosses(before, self.env_steps, options.log_every):
                    self.log()
                if _crosses(before, self.env_steps, options.eval_every) and self.env_steps < total:
                    self.evaluate()
                if _crosses(before, self.env_steps, options.checkpoint_every) and self.env_steps < total:
                    self.checkpoint()
            finished = self.env_steps >= total
            if finished and self.finished_at != self.env_steps:
                self.evaluate()
                self.finished_at = self.env_steps
                self.checkpoint()
            elif self.saved_at != self.env_steps:
                self.checkpoint()
        self.env.close()
        return {"env_steps": self.env_steps, "frames": self.frames, "finished": finished, **self.summary}

    def act(self) -> None:
        """One decision per stream."""
        streams = self.env.num_envs
        self.learner.policy.explore(self.env_steps, range(streams), streams)
        taken, ended = self.actor.step(random=self.env_steps < self.config.run.prefill)
        self.env_steps += taken
        self.limiter.inserted(taken)
        self._episodes(ended)

    def learn(self) -> None:
        """As many learner_steps as the limiter allows now."""
        ready = self.env_steps >= self.config.run.prefill and self.replay.can_sample(self.config.replay.batch)
        if not ready:
            return
        if not self.pretrained:
            for _ in range(self.config.run.pretrain):
                self.trainer.step()
            self.pretrained = True
        while self.limiter.may_sample():
            self.trainer.step()
            self.limiter.sampled(self.trainer.trained_rows)

    def _store(self, rows: Rows, streams: np.ndarray | None, state: State) -> None:
        kept = None
        if self.replay.state_spec:
            kept = {name: value.cpu().numpy() for name, value in state.items()}
        self.replay.add(rows, streams, kept)
        self.prioritiser.inserted(streams)
        self.writer.add(rows, streams, kept)

    def _episodes(self, ended: list[tuple[int, float, int]]) -> None:
        for stream, score, length in ended:
            said = self.actor.episode_info.get(stream, {})
            info = {f"episode/{name}": value for name, value in said.items()}
            self._log({"episode/score": score, "episode/length": length, **info})

    def _log(self, metrics: dict[str, float]) -> None:
        self.logger.log(metrics, env_steps=self.env_steps, frames=self.frames, learner_steps=self.trainer.learner_steps)

    def log(self) -> None:
        """One line of means since the last one."""
        seconds = time.perf_counter() - self._clock
        metrics = self.trainer.meter.flush("train/")
        metrics["replay/ratio"] = self._ratio()
        metrics["replay/rows"] = len(self.replay)
        metrics["replay/bytes"] = len(self.replay) * sum(field.nbytes for field in self.replay.spec.values())
        metrics["speed/env_steps_per_s"] = (self.env_steps - self._at[0]) / seconds
        metrics["speed/learner_steps_per_s"] = (self.trainer.learner_steps - self._at[1]) / seconds
        self._log(metrics)
        self._mark()

    def _ratio(self) -> float:
        """Trained rows per env_step since the prefill, `run.pretrain` left out: what `run.train_ratio` asks for."""
        options = self.config.run
        paced = self.trainer.learner_steps - (options.pretrain if self.pretrained else 0)
        since = self.env_steps - options.prefill
        return paced * self.trainer.trained_rows / since if since > 0 else 0.0

    def _mark(self) -> None:
        self._clock = time.perf_counter()
        self._at = (self.env_steps, self.trainer.learner_steps)

    def evaluate(self) -> None:
        """The policy's mode on fresh environments; does not disturb training."""
        options = self.config.run
        if options.eval_episodes < 1:
            return
        env = build_env(self.config, min(options.eval_envs, options.eval_episodes))
        seed = derive(options.seed, f"evaluation {self.env_steps}")
        scores = Evaluator(env, self.learner.policy, options.eval_episodes, seed).run()["scores"]
        env.close()
        self.summary = {"eval_score": float(np.mean(scores)), "eval_scores": scores}
        self._log(
            {
                "eval/score": float(np.mean(scores)),
                "eval/score_median": float(np.median(scores)),
                "eval/score_min": float(np.min(scores)),
                "eval/episodes": len(scores),
            }
        )

    def checkpoint(self) -> None:
        """Everything, durably; then forget chunk files that no kept checkpoint needs."""
        self.logger.sync()
        self.checkpoints.save(
            self.env_steps,
            {
                "env_steps": self.env_steps,
                "frames": self.frames,
                "learner_steps": self.trainer.learner_steps,
                "pretrained": self.pretrained,
                "finished_at": self.finished_at,
                "summary": self.summary,
                "offset": self.logger.offset(),
                "learner": self.learner.save(),
                "actor": self.actor.state_dict(),
                "env": self.env.state_dict() if self.env.spec.resume != "truncate" else None,
                "replay": self.replay.state_dict(),
                "writer": self.writer.state_dict(),
                "limiter": self.limiter.state_dict(),
                "meter": self.trainer.meter.state_dict(),
            },
        )
        self.saved_at = self.env_steps
        # The checkpoint before this one stays usable: only what it does not need either is removed.
        self.writer.evict(self.safe_to_evict)
        self.safe_to_evict = self.replay.oldest

    def restore(self) -> None:
        """Return to the newest checkpoint; without one the run begins anew."""
        if self.checkpoints.latest() is None:
            self.writer.load_state_dict(self.writer.state_dict())
            return
        tree = self.checkpoints.load()
        try:
            self._restore(tree)
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise misfit(self.checkpoints.latest(), error) from error

    def _restore(self, tree: dict[str, Any]) -> None:
        self.env_steps, self.pretrained = tree["env_steps"], tree["pretrained"]
        self.finished_at, self.summary, self.saved_at = tree["finished_at"], tree["summary"], tree["env_steps"]
        self.trainer.learner_steps = tree["learner_steps"]
        self.learner.restore(tree["learner"])
        self.replay.load_state_dict(tree["replay"])
        refill(self.replay, self.run_dir / "replay", tree["writer"])
        self.limiter.load_state_dict(tree["limiter"])
        self.trainer.meter.load_state_dict(tree["meter"])
        self.actor.load_state_dict(tree["actor"])
        # Last, because it deletes the chunk files that are newer than the checkpoint.
        self.writer.load_state_dict(tree["writer"])
        self.safe_to_evict = self.replay.oldest
        self.resumed = tree
        if tree["env"] is not None:
            try:
                self.env.load_state_dict(tree["env"])
                return
            except ResumeError as error:
                print(f"reverie: {error}; its open episodes are closed as truncated")
        self._begin_episodes_anew(tree["env_steps"])

    def _begin_episodes_anew(self, env_steps: int) -> None:
        """For environments that cannot be brought back: close open episodes as time limits and reset all streams.

        ::

            stored   ...  t-1  |  t      the row that was seen last becomes the closing row, with the reward that
            seen                  t      action t-1 earned; a row that begins an episode is dropped instead
        """
        seen = self.actor.rows
        streams = np.flatnonzero(~seen["is_first"])
        if len(streams):
            blank = {n: np.zeros((len(streams), *field.shape), field.dtype) for n, field in self.replay.spec.items()}
            closing = blank | {name: value[streams] for name, value in seen.items()}
            closing["is_last"] = np.ones(len(streams), bool)
            index = torch.from_numpy(streams)
            self._store(closing, streams, {name: value[index] for name, value in self.actor.state.items()})
        self.actor.state = self.learner.policy.initial_state(self.env.num_envs)
        self.actor.seed = derive(self.config.run.seed, f"actor {env_steps}")
        self.actor.start()


def _crosses(before: int, after: int, every: int) -> bool:
    return bool(every) and after // every > before // every


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """Nobody else trains in this directory; the lock ends with the process, however that ends."""
    folder = os.open(run_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in {run_dir}; wait for it, or end it (it saves on SIGTERM)"
            ) from error
        except OSError as error:
            # Some network file systems have no locks, and a run there must still be possible.
            print(f"reverie: {run_dir} cannot be locked ({error.strerror}): let no other process train there")
        yield
    finally:
        os.close(folder)


@contextmanager
def _interruptible() -> Iterator[dict[str, bool]]:
    """SIGTERM and SIGINT ask the run to save and end; a second SIGINT interrupts at once."""
    stop = {"now": False}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop["now"] and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop["now"] = True

    try:
        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals belong to whoever owns it
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
