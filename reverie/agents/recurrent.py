"""Start states: the one place that knows {zero, stored} x {burn-in or not}.

::

    rows     | context ............ | learn ........ | lookahead |
    state    s0 --unroll, no grad-->  s               the losses begin from s

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
    rows = dict(batch.rows)
    if batch.start is None:
        state = policy.initial_state(rows["is_first"].shape[1])
        first = rows["is_first"].clone()
        first[0] = True
        rows["is_first"] = first
    else:
        state = batch.start
    if spec.context:
        with torch.no_grad():
            _, state = policy.unroll(state, {k: v[: spec.context] for k, v in rows.items()}, u[: spec.context])
        rows = {k: v[spec.context :] for k, v in rows.items()}
    return state, rows
