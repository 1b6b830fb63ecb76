"""Rewards of another task for rows that exist: their episodes are played again where that task pays.

::

    dataset    row 0, a_0    row 1, a_1   ...      of the run beside it, whose seed began its streams
    again      reset(seed)   step(a_0)    ...      in this run's environment: every row the same but for its reward

An episode is a function of its seed and its actions, so that nothing is estimated: rewards are those that acting the
same would have earned. Every observation and every end is compared, and the first that differs is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from reverie.config import Config
from reverie.data.dataset import Dataset
from reverie.envs.env import shut
from reverie.errors import UserError
from reverie.run.build import build_env, derive
from reverie.run.saved_config import load_config

Row = dict[str, np.ndarray]


def played_rewards(dataset: Dataset, config: Config) -> list[np.ndarray]:
    """Rewards float32 [rows] of every stream of a dataset, as the environment of this run pays them.

    config: of the run that learns. Raises UserError where the episodes cannot be played again: the run that acted them
    is not beside them or had actors elsewhere, rows are missing at the beginning, or a row is another one there.
    """
    if not (dataset.folder.parent / "config.json").exists():
        raise UserError(
            f"{dataset.folder} has no run beside it (config.json), whose seed its episodes began from: "
            "dataset.rewards = played needs the replay/ of a run"
        )
    acted = load_config(dataset.folder.parent)
    if acted.ray.actors or acted.dataset.path:
        raise UserError(f"{dataset.folder} was not acted by its run alone: it cannot be played again")
    late = [stream for stream in dataset.streams if dataset.begin(stream)]
    if late or dataset.streams != list(range(acted.env.num_envs)):
        raise UserError(f"{dataset.folder} lacks the first rows of its streams: it cannot be played again")
    env = build_env(config, acted.env.num_envs)
    try:
        rewards: list[list[float]] = [[] for _ in dataset.streams]
        given = [_rows(dataset, stream) for stream in dataset.streams]
        rows, open_rows = env.reset(derive(acted.run.seed, "actor")), [next(each, None) for each in given]
        while any(row is not None for row in open_rows):
            for stream, row in enumerate(open_rows):
                _take(rows, stream, row, rewards, stream, config, dataset)
            actions = [_action(row, like=open_rows) for row in open_rows]
            step = env.step(np.stack(actions))
            for place, stream in enumerate([] if step.streams is None else step.streams.tolist()):
                if open_rows[stream] is not None:
                    _take(step.ends or {}, place, next(given[stream], None), rewards, stream, config, dataset)
            rows = step.rows
            open_rows = [None if row is None else next(each, None) for row, each in zip(open_rows, given, strict=True)]
    finally:
        shut(env)
    return [np.array(each, np.float32) for each in rewards]


def _rows(dataset: Dataset, stream: int) -> Iterator[Row]:
    for chunk in dataset.chunks(stream):
        for t in range(len(chunk)):
            yield {name: value[t] for name, value in chunk.rows.items()}


def _action(row: Row | None, like: list[Row | None]) -> np.ndarray:
    """The action of a row; zeros for a stream that has no more of them."""
    if row is not None:
        return row["action"]
    return np.zeros_like(next(other["action"] for other in like if other is not None))


def _take(
    rows: Mapping[str, np.ndarray],
    place: int,
    row: Row | None,
    rewards: list[list[float]],
    stream: int,
    config: Config,
    dataset: Dataset,
) -> None:
    """Note the reward of a row that was played again, if it is that of the dataset."""
    if row is None:
        return
    for name, values in rows.items():
        if name in ("reward", "prev_action"):
            continue
        if name not in row or np.asarray(values[place]).tobytes() != np.asarray(row[name]).tobytes():
            raise UserError(
                f"{dataset.folder}: row {len(rewards[stream])} of stream {stream} has another {name} when it is played "
                f"again in {config.env.id}: dataset.rewards = played needs tasks that differ in their rewards alone"
            )
    rewards[stream].append(float(rows["reward"][place]))
