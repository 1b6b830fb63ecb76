"""Parts of a batch for learners that share it, and their feedback put together again.

::

    batch [T, B]   = part 0 [T, b] | part 1 [T, b] | ...        windows in order
    feedback [B]   = of part 0 [b] | of part 1 [b] | ...        in the same order
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reverie.data.sequences import Batch, Feedback

LENGTHWISE = ("rows.", "probes.")
"""tensors of `Batch.tensors` whose first axis is time"""


def split(batch: Batch, parts: int) -> list[Batch]:
    """Equal parts of a batch, in order; they share its memory. Raises ValueError if there are none."""
    width = len(batch.keys)
    if width % parts:
        raise ValueError(f"{width} windows cannot be shared equally by {parts} learners")
    each = width // parts
    return [
        joined(
            {name: x.narrow(int(name.startswith(LENGTHWISE)), k * each, each) for name, x in batch.tensors().items()}
        )
        for k in range(parts)
    ]


def joined(tensors: Mapping[str, Tensor]) -> Batch:
    """The batch of these tensors; inverse of `Batch.tensors`."""
    groups: dict[str, dict[str, Tensor]] = {"rows": {}, "start": {}, "probes": {}}
    for name, x in tensors.items():
        group, _, field = name.partition(".")
        if field:
            groups[group][field] = x
    of_windows = tensors["keys"], tensors["probabilities"], tensors["ages"]
    return Batch(groups["rows"], groups["start"] or None, *of_windows, groups["probes"] or None)


def together(feedback: Sequence[Feedback | None], width: int) -> Feedback | None:
    """Feedback on a whole batch from that on its parts, in order; None where there is none.

    width: windows of each part. Entries are of k rows of each window, k * width of them, rows first.
    """
    parts = [part for part in feedback if part is not None]
    if not parts:
        return None

    def cat(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([x.unflatten(0, (-1, width)) for x in values], 1).flatten(0, 1)

    priorities = [part.priorities for part in parts if part.priorities is not None]
    states = [part.states for part in parts if part.states is not None]
    return Feedback(
        cat([part.keys for part in parts]),
        cat(priorities) if priorities else None,
        {name: cat([each[name] for each in states]) for name in states[0]} if states else None,
    )
