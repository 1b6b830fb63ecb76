"""Losses of a world model, keyed by group and name, and what they are called in a log.

Groups are ``observation`` (all of the objective's losses), ``reward``, ``continuation`` and ``dynamics``. Names of
observations are the environment's own: only together with the group they are unique.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Losses = dict[tuple[str, str], Tensor]
"""(group, name) -> scalar"""


def of(losses: Losses, group: str) -> dict[str, Tensor]:
    """The losses of one group by their names."""
    return {name: loss for (of_group, name), loss in losses.items() if of_group == group}


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of at least one loss."""
    first, *others = losses.values()
    return torch.stack([first, *others]).sum() if others else first


def loss_metrics(losses: Losses, reserved: Iterable[str]) -> dict[str, Tensor]:
    """Metrics ``<name>_loss`` of all losses, detached.

    reserved: names whose ``<name>_loss`` is something else already. An observation that is called like one of them, or
    like another loss of the model, is ``observation/<name>_loss``.
    """
    labels = {name for group, name in losses if group != "observation"} | set(reserved)
    metrics = {}
    for (group, name), loss in losses.items():
        label = name
        while group == "observation" and label in labels:
            label = f"{group}/{label}"
        labels.add(label)
        metrics[f"{label}_loss"] = loss.detach()
    return metrics
