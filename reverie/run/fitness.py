"""Fitness of a run in training: what its last episodes earned, over all its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from reverie.envs.tasks import label, tasks_of
from reverie.report.reference import GAME, human_normalised, reference


def fitness(id: str, lines: Iterable[Mapping[str, float]], episodes: int) -> float | None:
    """Mean score of the episodes in these lines of a log; None if fewer have ended, or of some task none.

    Whole games where the environment tells of them (``episode/game_return``: where a life is an episode). Of several
    tasks the mean of the tasks' means; where human scores are known for all of them, in percent of these, cut off at
    100 (mean capped human-normalised score: Espeholt et al. 2018, IMPALA, section 5.3).
    """
    tasks = tasks_of(id)
    records = [line for line in lines if "episode/score" in line]
    if any(GAME in line for line in records):
        records = [line for line in records if GAME in line]
    if len(records) < episodes:
        return None
    each = [[line for line in records if f"task/{label(one)}/score" in line] for one in tasks] or [records]
    if not all(each):
        return None
    means = [float(np.mean([line.get(GAME, line["episode/score"]) for line in own])) for own in each]
    if tasks and all(reference(one) is not None for one in tasks):
        means = [min(100.0, 100.0 * float(human_normalised(*pair))) for pair in zip(tasks, means, strict=True)]
    return float(np.mean(means))
