"""What a sequence of actions is worth in a model, and the sequences that a policy would take there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from reverie.data.rows import State
from reverie.ops.loop import Tensors, loop

Policy = Callable[[State, Tensor], Tensor]
"""States of N rows and uniform noise [N, actions.noise] -> encoded actions [N, A]."""


_TOTAL, _WEIGHT = "return so far", "discount so far"
"""beside the names of the state, while a sequence is imagined"""


class Imagines(Protocol):
    """Model that can be planned in."""

    @property
    def noise(self) -> int:
        """Uniform numbers that one imagined step of one row takes; 0 where the model is deterministic."""

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        """One step: next state, its reward float32 [N], and the discount of all that follows it, float32 [N].

        state: name -> [N, ...]. action: encoded [N, A]. noise: uniform [N, `noise`], None where that is 0.
        """

    def value(self, state: State) -> Tensor:
        """Value of what follows after the last state, float32 [N]; zeros of a model without a critic."""


@runtime_checkable
class DrawsValues(Protocol):
    """Model that can be planned in and whose values are drawn, with fresh numbers in every iteration.

    It has `Imagines.noise` and `Imagines.imagine`, and `drawn_value` in place of `Imagines.value`.
    """

    @property
    def noise(self) -> int:
        """As `Imagines.noise`."""

    @property
    def value_noise(self) -> tuple[int, int]:
        """Uniform numbers that a value takes: each candidate its own, and those that a stream's candidates share."""

    def imagine(self, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
        """As `Imagines.imagine`."""

    def drawn_value(self, state: State, own: Tensor, shared: Tensor) -> Tensor:
        """Value of what follows, float32 [N]. own, shared: uniform [N, n], the latter equal within a stream."""


Model = Imagines | DrawsValues


def imagined_returns(
    model: Model,
    state: State,
    candidates: Tensor,
    noise: Tensor | None,
    own: Tensor | None = None,
    shared: Tensor | None = None,
    horizon: Tensor | None = None,
) -> Tensor:
    """G = r_1 + d_1 r_2 + ... + d_1 ... d_H V(s_H) of each sequence of actions, float32 [B, N].

    state: name -> [B, ...]. candidates: encoded [B, N, H, A]. noise: uniform [B, N, H, model.noise], not read where
    that is 0. own, shared: uniform [B, N, n] and [B, m], of `DrawsValues.drawn_value`; None: no numbers.
    horizon: int64 [], actions that count; None: all of them.
    """
    streams, count = candidates.shape[:2]
    state = _repeated(state, count)
    total: Tensor = candidates.new_zeros(streams * count)

    def step(carry: Tensors, given: Tensors) -> tuple[Tensors, Tensors]:
        before = {name: carry[name] for name in state}
        after, reward, discount = _imagine(model, before, given["action"].flatten(0, 1), given.get("noise"))
        total, weight = carry[_TOTAL], carry[_WEIGHT]
        after = {**after, _TOTAL: total + weight * reward, _WEIGHT: weight * discount}
        if "counts" in given:
            after = {name: torch.where(given["counts"], value, carry[name]) for name, value in after.items()}
        return after, {}

    given = {"action": candidates.movedim(2, 0)}
    if horizon is not None:
        given["counts"] = torch.arange(candidates.shape[2], device=horizon.device) < horizon
    if model.noise:
        assert noise is not None
        given["noise"] = noise.movedim(2, 0)
    end, _ = loop(step, {**state, _TOTAL: total, _WEIGHT: torch.ones_like(total)}, given)
    last = {name: end[name] for name in state}
    if isinstance(model, DrawsValues):
        # No numbers at all are made here: runtimes of exported graphs cannot give them shapes.
        none = candidates.new_zeros(streams * count, 0)
        each = none if own is None else own.flatten(0, 1)
        value = model.drawn_value(last, each, none if shared is None else shared.repeat_interleave(count, 0))
    else:
        value = model.value(last)
    return (end[_TOTAL] + end[_WEIGHT] * value).view(streams, count)


def followed(model: Model, policy: Policy, state: State, u: Tensor, noise: Tensor) -> Tensor:
    """Actions [B, P, H, A] of a policy in the model. u: [B, P, H, actions.noise]; noise: [B, P, H, model.noise]."""
    streams, count, horizon, _ = u.shape
    state, sequence = _repeated(state, count), []
    for t in range(horizon):
        sequence.append(policy(state, u[:, :, t].flatten(0, 1)))
        if t < horizon - 1:
            state, _, _ = _imagine(model, state, sequence[-1], noise[:, :, t])
    return torch.stack(sequence, 1).unflatten(0, (streams, count))


def _repeated(state: State, count: int) -> State:
    return {name: x.repeat_interleave(count, 0) for name, x in state.items()}


def _imagine(model: Model, state: State, action: Tensor, noise: Tensor | None) -> tuple[State, Tensor, Tensor]:
    rows = noise.flatten(0, 1) if model.noise and noise is not None else None
    state, reward, discount = model.imagine(state, action, rows)
    if reward.shape != action.shape[:1] or discount.shape != action.shape[:1]:
        shapes = f"{tuple(reward.shape)} and {tuple(discount.shape)}"
        raise ValueError(f"rewards and discounts must be [{len(action)}], got {shapes}")
    return state, reward, discount
