"""Start states: the one place that knows {zero, stored} x {burn-in or not}. And how far states drift.

::

    rows     | lookback | burn-in ............ | learn ........ | lookahead |
             | ------ context rows ------------ |
    state    s0  --look--  --warm, no grad------>  s               the losses begin from s

`lookback` rows are there for policies whose observations reach back (frame stacks) and for ``zero`` only: a stored
state brings its frames along.

Source: R2D2 section 3 (the four strategies); Dreamer V1-V3 are the cases (zero, 0) and (stored, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.data.rows import State
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.ops import world

if TYPE_CHECKING:
    from reverie.agents.noise import Tape
    from reverie.agents.policy import Policy


def start_state(policy: Policy, batch: Batch, windows: SequenceSpec, tape: Tape) -> tuple[State, dict[str, Tensor]]:
    """The state before the first learned row, and the rows from there on [learn + lookahead, B, ...].

    tape: noise of all rows of the window, [T, B, n], of which the context rows take theirs. `open_window` and `burn_in`
    one after the other.
    """
    return burn_in(policy, *open_window(policy, batch, windows), windows, tape)


def open_window(policy: Policy, batch: Batch, windows: SequenceSpec) -> tuple[State, dict[str, Tensor]]:
    """The state before the burn-in, and the rows from there on; the same for all parameters.

    ``zero``: the first row of the window is treated as is_first, so that the previous action is not used either
    (DreamerV2 code); behind rows that fill a stack of frames, the first one that a memory reads keeps its own is_first,
    with the previous action and reward: another would empty the stack. ``stored``: the state that the actor had.
    """
    rows = dict(batch.rows)
    if batch.start is not None:
        return batch.start, rows
    state = policy.initial_state(rows["is_first"].shape[1])
    first = rows["is_first"].clone()
    first[0] = True
    rows["is_first"] = first
    back = min(policy.lookback, windows.context)
    if not back:
        return state, rows
    state = policy.look(state, {k: v[:back] for k, v in rows.items()})
    return state, {k: v[back:] for k, v in rows.items()}


def burn_in(
    policy: Policy, state: State, rows: dict[str, Tensor], windows: SequenceSpec, tape: Tape
) -> tuple[State, dict[str, Tensor]]:
    """The state after all rows but the last learn + lookahead, without a gradient; and these. See `start_state`."""
    count = len(rows["is_first"]) - windows.learn - windows.lookahead
    if not count:
        return state, rows
    with torch.no_grad():
        first = {k: v[:count] for k, v in rows.items()}
        state = policy.warm(state, first, tape[windows.context - count : windows.context])
    return state, {k: v[count:] for k, v in rows.items()}


def written_back(batch: Batch, windows: SequenceSpec, states: State) -> Feedback | None:
    """Feedback that replaces stored states by those of an update's unroll; None unless windows begin from stored ones.

    ::

        row        c      c+1    ...   c+L-1            c context rows, L learned ones
        state    |  s_0  |  s_1  ...  |  s_{L-1}  |     after row c + k, which is before row c + k + 1

    states: after the learned rows, name -> [learn, B, ...]. Only states before multiples of the period are stored.
    Source: Hafner et al. 2023 (DreamerV3), code since 2024 (``replay_context``); the same could serve R2D2.
    """
    if windows.state != "stored":
        return None
    first, width = -(windows.context + 1) % windows.period, len(batch.keys)
    if first >= windows.learn:
        return None
    after = torch.arange(first, windows.learn, windows.period, device=batch.keys.device)
    keys = batch.keys + (windows.context + 1 + after).unsqueeze(-1)
    kept = {name: x[first :: windows.period, :width].detach().flatten(0, 1) for name, x in states.items()}
    return Feedback(keys.flatten(), None, kept)


@dataclass(frozen=True)
class Probe:
    """A row of a batch at which the state that the actor had is known too.

    name: of the metric. row: index in the window. state: the actor's before that row, rows: that row, [B, ...] each.
    same: bool [B], windows in which no episode begins between the first row and this one. In the others both states
    have been reset on the way and agree.
    """

    name: str
    row: int
    state: State
    rows: dict[str, Tensor]
    same: Tensor

    def mean(self, distance: Tensor) -> Tensor:
        """Mean of a distance [B] over the windows that count, 0 if there is none; without a gradient."""
        return world.ratio(torch.where(self.same, distance, 0.0).sum(), self.same).detach()


def probes(batch: Batch, windows: SequenceSpec) -> list[Probe]:
    """The rows that ``drift`` measures at: ``drift_first`` and ``drift_last``, see `SequenceSpec.probes`."""
    states = batch.probes
    if states is None:
        return []
    return [
        Probe(
            name,
            row,
            {key: value[k] for key, value in states.items()},
            {key: value[row] for key, value in batch.rows.items()},
            ~batch.rows["is_first"][1 : row + 1].any(0),
        )
        for k, (name, row) in enumerate(zip(("drift_first", "drift_last"), windows.probes, strict=True))
    ]
