"""Acting: a policy, the seat that it acts from, and the decision that it takes.

A `Policy` is all that an actor needs. It keeps no memory of streams between calls: whatever belongs to one environment
stream is passed in and returned. How it explores is a function of the `Seat`, so that nothing is set on it either; what
it tells about a decision (extras) always belongs to the action that is taken, random ones included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from reverie.agents.noise import Noise
from reverie.data.rows import RowSpec, State
from reverie.data.sequences import SequenceSpec

Play = Literal["explore", "random", "greedy"]


@dataclass(frozen=True)
class Seat:
    """Place and manner in which a policy acts.

    streams: numbers of the streams that it acts for, of `total` in the whole run. env_steps: of the whole run so far.
    play: ``explore`` as in training, ``random`` uniformly (the prefill of a replay), ``greedy`` as in evaluation.
    """

    streams: Sequence[int]
    total: int
    env_steps: int = 0
    play: Play = "explore"

    @classmethod
    def alone(cls, streams: int, play: Play = "greedy", env_steps: int = 0) -> Seat:
        """All streams of a run that has no others."""
        return cls(range(streams), streams, env_steps, play)


@dataclass(frozen=True)
class Decision:
    """Outcome of one step. action: as the environment takes it, [B, ...]. state: of the policy, after this row.

    extras: what `Policy.extras` declares, name -> [B, ...], of *this* action.
    """

    action: Tensor
    state: State
    extras: dict[str, Tensor] = field(default_factory=dict)


class Policy(nn.Module, ABC):
    """Networks that act on rows, one step at a time."""

    noise: int
    """uniform numbers that one step of one stream consumes"""
    extras: RowSpec
    """what `step` returns beside actions and states, stored with each row as ``extra.<name>``; none by default"""
    scored: tuple[str, ...] = ()
    """fields of rows that `priorities` reads; empty: new windows get the selector's own priority"""
    lookback: int = 0
    """rows before a window that only its observations reach back to (k - 1 for a stack of k frames), see `look`"""
    by_task: bool = False
    """whether it acts by the number of the task (``obs.task``), where it plays several environments"""
    version: Tensor
    """learner_steps behind these parameters, int64 []: the learner writes it, and it travels with the parameters"""

    def __init__(self) -> None:
        super().__init__()
        self.extras = {}
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))

    @property
    def device(self) -> torch.device:
        """Device that it computes on."""
        return self.version.device

    @property
    def unroll_noise(self) -> int:
        """How many of them, the first ones, an unroll takes: all, unless only decisions take the others."""
        return self.noise

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before an episode, name -> [B, ...]."""

    @abstractmethod
    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream.

        rows: the seen half of rows [B, ...] with prev_action; where is_first, the state is reset inside.
        noise: asked once, for ``uniform(B, self.noise)``. seat: see `Seat`; all its kinds of play must be known.
        """

    @abstractmethod
    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[Any, State]:
        """The outputs [T, B] and the last state: equal to a loop of `step` over rows [T, B, ...], up to the actions.

        noise: asked once, for ``uniform(T, B, self.unroll_noise)``, if at all.
        """

    def look(self, state: State, rows: Mapping[str, Tensor]) -> State:
        """The state with rows [T, B, ...] as the past of its observations only: frame stacks fill, the memory stays."""
        return state

    def warm(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> State:
        """The state after rows [T, B, ...], without outputs: what `unroll` returns second."""
        return self.unroll(state, rows, noise)[1]

    def metrics(self, seat: Seat) -> dict[str, float]:
        """Numbers about how it acts from a seat, to be logged with ``actor/`` before their names; none by default."""
        return {}

    def priorities(self, rows: Mapping[str, Tensor], windows: SequenceSpec) -> Tensor:
        """Priorities [B] of new windows, from the fields `scored` of their rows [T, B, ...] as the actor left them."""
        raise NotImplementedError(f"{type(self).__name__} computes no priorities in the actor")


P = TypeVar("P", bound=nn.Module)


def placed(module: P, device: torch.device | None = None) -> P:
    """The module itself on a device, with images channels last in memory, as its convolutions are fastest."""
    module.to(device or torch.device("cpu"))
    return nn.Module.to(module, memory_format=torch.channels_last)  # type: ignore[call-overload]
