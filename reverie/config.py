"""The configuration of a run: one tree of frozen dataclasses, saved beside the run, never edited by an agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from reverie.data.sequences import SequenceSpec, StateKind

Selector = Literal["uniform", "ends", "episodes", "recency", "prioritised"]


@dataclass(frozen=True)
class EnvConfig:
    """id: see `reverie list envs`. num_envs: streams of the actor. options: passed on to the adapter."""

    id: str = "toy/catch"
    num_envs: int = 1
    protocol: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplayConfig:
    """What is kept and what a batch is made of; lengths in rows, see `reverie.data.sequences.SequenceSpec`.

    budget: bytes of rows kept in memory. batch: windows per learner_step. context: rows of burn-in; what an agent
    needs beside them (frames of a stack, rows to bootstrap from) it adds itself, see `Learner.sequence`.
    alpha, priority_floor: of the selector ``prioritised``, P(i) ~ max(p_i, priority_floor)^alpha.
    recent_fraction, recent_horizon, recent_decay: of the selector ``recency``, see `reverie.data.selectors.Recency`.
    drift: measure how far recurrent states drift (``train/drift_first``, ``train/drift_last``); keeps the actor's.
    """

    budget: int = 2_000_000_000
    batch: int = 16
    context: int = 0
    learn: int = 50
    period: int = 1
    state: StateKind = "zero"
    drift: bool = False
    selector: Selector = "uniform"
    alpha: float = 0.6
    priority_floor: float = 1e-6
    recent_fraction: float = 0.5
    recent_horizon: int = 1000
    recent_decay: Literal["exponential", "linear"] = "exponential"
    chunk: int = 1024
    """rows of one stream per sealed file on disk"""

    def __post_init__(self) -> None:
        SequenceSpec(self.context, self.learn, 0, self.period, self.state, self.drift)
        _at_least(1, budget=self.budget, batch=self.batch, chunk=self.chunk)
        if self.alpha < 0.0 or self.priority_floor <= 0.0:
            raise ValueError(f"expected alpha >= 0 and priority_floor > 0, got {self.alpha} and {self.priority_floor}")
        if not 0.0 <= self.recent_fraction <= 1.0 or self.recent_horizon < 1:
            raise ValueError(
                "expected 0 <= recent_fraction <= 1 and recent_horizon >= 1, "
                f"got {self.recent_fraction} and {self.recent_horizon}"
            )
        if self.selector in ("ends", "episodes") and self.period != 1:
            raise ValueError(f"the selector {self.selector!r} needs period = 1, got {self.period}")


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, and on what.

    frames: length of the run (env_steps x action repeat). prefill: env_steps of random actions first.
    pretrain: learner_steps once the prefill is there. train_ratio: trained_rows per env_step (after the prefill).
    log_every, checkpoint_every, eval_every: env_steps; eval_every 0 evaluates only at the end.
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
    train_ratio: float = 50.0
    publish_every: int = 0
    """learner_steps after which actors take over newer parameters; 0: they act with the learner's own networks"""
    ahead: int = 0
    """batches drawn and copied ahead of the update that learns from them; 0: the exact order"""
    log_every: int = 1000
    checkpoint_every: int = 10_000
    eval_every: int = 0
    eval_episodes: int = 10
    eval_envs: int = 1
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        _at_least(1, frames=self.frames, eval_envs=self.eval_envs, keep_checkpoints=self.keep_checkpoints)
        _at_least(1, env_steps=1 if self.env_steps is None else self.env_steps)
        _at_least(0, seed=self.seed, threads=self.threads, prefill=self.prefill, pretrain=self.pretrain)
        _at_least(0, publish_every=self.publish_every, ahead=self.ahead)
        _at_least(0, log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        _at_least(0, eval_every=self.eval_every, eval_episodes=self.eval_episodes)
        if not 1e-6 <= self.train_ratio < float("inf"):
            raise ValueError(f"train_ratio must be finite and at least 1e-6, got {self.train_ratio}")


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Config:
    """A whole run. name: of the agent, see `reverie list agents`; agent: its own configuration."""

    name: str
    preset: str
    agent: Any
    env: EnvConfig = field(default_factory=EnvConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    run: RunConfig = field(default_factory=RunConfig)
