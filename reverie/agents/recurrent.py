"""Start states: the one place that knows {zero, stored} x {burn-in or not}.

::

    rows     | lookback | burn-in ............ | learn ........ | lookahead |
             | ------ context rows ------------ |
    state    s0  --look--  --warm, no grad------>  s               the losses begin from s

`lookback` rows are there for policies whose observations reach back (frame stacks) and for ``zero`` only: a stored
state brings its frames along.

Source: R2D2 section 3 (the four strategies); Dreamer V1-V3 are the cases (zero, 0) and (stored, 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.data.rows import State
from reverie.data.sequences import Batch, SequenceSpec

if TYPE_CHECKING:
    from reverie.agents.agent import Policy


def start_state(policy: Policy, batch: Batch, spec: SequenceSpec, u: Tensor) -> tuple[State, dict[str, Tensor]]:
    """The state before the first learned row, and the rows from there on [learn + lookahead, B, ...].

    ``zero``: the first row of the window is treated as is_first, so that the previous action is not used either
    (DreamerV2 code). ``stored``: the state that the actor had. u: noise [T, B, ...] for the context rows.
    """
    rows, context = dict(batch.rows), spec.context
    if batch.start is None:
        state = policy.initial_state(rows["is_first"].shape[1])
        first = rows["is_first"].clone()
        first[0] = True
        rows["is_first"] = first
        back = min(policy.lookback, context)
        if back:
            state = policy.look(state, {k: v[:back] for k, v in rows.items()})
    else:
        state, back = batch.start, 0
    if context > back:
        with torch.no_grad():
            state = policy.warm(state, {k: v[back:context] for k, v in rows.items()}, u[back:context])
    return state, {k: v[context:] for k, v in rows.items()} if context else rows
