"""Length of a run, and the ends of its schedules."""

from __future__ import annotations

from contextlib import suppress

from reverie.config import Config
from reverie.data.dataset import open_dataset
from reverie.errors import UserError
from reverie.nets.schedule import Length, ends
from reverie.run.minari import is_minari


def run_length(config: Config, action_repeat: int, since: Length | None = None) -> Length:
    """The length of a run in an environment with that action repeat.

    since: what the run had made when its pacing was last changed (`reverie.run.chain.Chain.since`), from where on the
    ratio counts; None: it never was.

    ::

        learner_steps = pretrain + (env_steps - prefill) train_ratio / (batch learn)     rounded down

    without the one update that follows the prefill at once and that no row has earned. Without a train_ratio every
    window is drawn once: env_steps / (fresh period), from the first row on, with `fresh` such windows in a batch (all
    of them, but for ``replay.selector.share``). That is a lower bound: rows that close episodes lie in windows too and
    are no env_steps, so that short episodes make more updates, and a schedule over the run ends before the run does.
    """
    run, replay = config.run, config.replay
    env_steps = run.env_steps or -(-run.frames // action_repeat)
    if run.train_ratio is None:
        fresh = replay.selector.fresh(replay.batch)
        return Length(env_steps, env_steps // (fresh * replay.window.period))
    if since is not None:
        rows = max(env_steps - max(since.env_steps, run.prefill), 0) * run.train_ratio
        return Length(env_steps, since.learner_steps + int(rows / (replay.batch * replay.window.learn)))
    rows = max(env_steps - run.prefill, 0) * run.train_ratio
    return Length(env_steps, run.pretrain + int(rows / (replay.batch * replay.window.learn)))


def rows_to_come(config: Config, action_repeat: int) -> float:
    """Rows that the replay of a run is given: one per env_step, or those of its dataset (inf: only reading it tells).

    A dataset that is gone, which a run that goes on does not need, counts as one row per env_step.
    """
    if is_minari(config.dataset.path):
        return float("inf")
    with suppress(UserError):
        if config.dataset.path:
            return len(open_dataset(config.dataset.path))
    return run_length(config, action_repeat).env_steps


def schedule_line(config: Config, action_repeat: int, since: Length | None = None) -> str:
    """Line that says when each schedule of the agent ends; empty if there is none. since: see `run_length`."""
    length = run_length(config, action_repeat, since)

    def unknown(unit: str) -> bool:
        return config.run.train_ratio is None and unit == "learner_steps"

    lines = [
        f"agent.{key} ends after {count} of {'at least ' * unknown(unit)}{getattr(length, unit)} {unit}"
        for key, count, unit in ends(config.agent, length)
    ]
    return "; ".join(lines)
