"""Settings of what a run begins with: networks of another run, rows of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class InitConfig:
    """Networks that a run begins with, see `reverie.run.init`.

    run: directory of another run; empty: fresh networks.
    checkpoint: which of that run's, ``latest``, ``best`` or env_steps.
    parts: names in its module tree (``encoder``, ``policy.rssm``); none: all networks, which must be the same.
    """

    run: str = ""
    checkpoint: str = "latest"
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.parts and not self.run:
            raise ValueError("init.parts are of the run that init.run names, which is missing")
        if self.checkpoint != "latest" and not self.run:
            raise ValueError("init.checkpoint is of the run that init.run names, which is missing")


@dataclass(frozen=True)
class DatasetConfig:
    """Rows that a run learns from in place of its own, see `reverie.run.offline`.

    path: folder of chunk files, such as the ``replay`` of another run, or ``minari:`` and the name of a dataset of
        Minari; empty: the run acts.
    rewards: of the rows: as they are ``stored``, or as this run's environment pays them when the same episodes are
    ``played`` again (`reverie.run.relabel`).
    """

    path: str = ""
    rewards: Literal["stored", "played"] = "stored"

    def __post_init__(self) -> None:
        if self.rewards != "stored" and not self.path:
            raise ValueError("dataset.rewards are of the rows that dataset.path names, which is missing")
