"""Settings of a run itself: its length, how often what happens, on what, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from reverie.config.bounds import at_least


@dataclass(frozen=True)
class RunConfig:
    """Length of a run, how often what happens, and on what.

    seed: of everything random. device: auto (the GPU when there is one), cpu, cuda or cuda:N.
    precision: of the networks; auto: bfloat16 on a GPU of capability 8.0 on, else float32, which rounds factors to
    TF32 there.
    compile: parts of the networks by torch.
    frames: length of the run (env_steps x action repeat). prefill: env_steps of random actions first.
    pretrain: learner_steps once the prefill is there; without pacing there are none.
    train_ratio: trained_rows per env_step (after the prefill); None: no pacing, windows are trained on as they come,
        which needs a selector that draws each of them once (``replay.selector = fifo``).
    log_every: env_steps between log lines; one more ends the run. checkpoint_every: env_steps between checkpoints.
    eval_every: env_steps between evaluations; 0: only at the end. eval_episodes: of each evaluation; 0: there are none.
    eval_envs: streams that share them. keep_checkpoints: how many of the newest are kept; of more
        than two, the others with networks to begin from (``init.run``), without their rows.
    """

    seed: int = 0
    frames: int = 1_000_000
    env_steps: int | None = None
    """length of the run in env_steps instead of frames"""
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    capture: bool = False
    """record an update as one CUDA graph and replay it, see `reverie.agents.capture`; needs a GPU"""
    threads: int = 0
    """CPU threads of torch; 0: all cores"""
    prefill: int = 1000
    pretrain: int = 1
    train_ratio: float | None = 50.0
    publish_every: int = 0
    """learner_steps after which actors take over newer parameters; 0: they act with the learner's own networks"""
    overlap: int = 0
    """learner_steps made in a thread beside decisions, at most, see `reverie.run.overlapped`; 0: none"""
    ahead: int = 0
    """batches drawn and copied ahead of the update that learns from them; 0: the exact order"""
    log_every: int = 1000
    checkpoint_every: int = 10_000
    eval_every: int = 0
    eval_episodes: int = 10
    eval_envs: int = 1
    eval_limit: int = 30_000
    """env_steps after which an episode of an evaluation is cut, which is said; 0: never. Atari's longest has 27 000"""
    nonfinite: Literal["stop", "warn"] = "stop"
    """what follows on an observation, reward, action, loss or parameter that is not finite: the end, or a notice"""
    keep_checkpoints: int = 2
    keep_best: bool = True
    """keep the networks of the evaluation with the highest mean score too, as checkpoint ``best``"""

    def __post_init__(self) -> None:
        at_least(1, frames=self.frames, eval_envs=self.eval_envs, keep_checkpoints=self.keep_checkpoints)
        at_least(1, env_steps=1 if self.env_steps is None else self.env_steps)
        at_least(0, seed=self.seed, threads=self.threads, prefill=self.prefill, pretrain=self.pretrain)
        for name in ("frames", "env_steps", "prefill", "pretrain"):
            if (getattr(self, name) or 0) > 2**53:  # counts are floats in places
                raise ValueError(f"{name} must be at most {2**53}, got {getattr(self, name)}")
        if self.threads > 1024:
            raise ValueError(f"threads must be at most 1024, got {self.threads}")
        at_least(0, publish_every=self.publish_every, overlap=self.overlap, ahead=self.ahead)
        at_least(0, log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        at_least(0, eval_every=self.eval_every, eval_episodes=self.eval_episodes, eval_limit=self.eval_limit)
        if self.train_ratio is not None and not 1e-6 <= self.train_ratio < float("inf"):
            raise ValueError(f"train_ratio must be finite and at least 1e-6, or none, got {self.train_ratio}")

    @property
    def follow_every(self) -> int:
        """learner_steps after which an actor beside the learner takes over newer parameters; 0: it has the learner's.

        With overlap it has parameters of its own, since the learner's change in a thread while it decides.
        """
        return self.publish_every or int(self.overlap > 0)


@dataclass(frozen=True)
class LogConfig:
    """Whom a run tells, besides ``metrics.jsonl``; a name or ``package.module:Class``, see docs/logging.md.

    writers: where metrics go too: ``tensorboard``, ``wandb``, ``mlflow``, or another package's.
    callbacks: what is done on the way: ``dreams``, ``histograms``, or another package's.
    options: of each of them, under its name (``log.options.wandb.project = maze``; of a class, under the class's).
    """

    writers: tuple[str, ...] = ("tensorboard",)
    callbacks: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
