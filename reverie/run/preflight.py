"""What is asked of a run, held against what the run will have, before anything of it is built."""

from __future__ import annotations

from reverie.agents.agent import Agent
from reverie.config import Config
from reverie.data.room import Room
from reverie.envs.tasks import check_shares
from reverie.errors import UserError
from reverie.machine import in_words, memory_of
from reverie.run.build import build_windows
from reverie.run.length import run_length

MINUTE = 60.0
"""seconds of training after which the time to come is told"""


def check_one_learner(config: Config) -> None:
    """Raise UserError if several learners are asked for where there is one."""
    for there, where in (
        (bool(config.dataset.path), "where a run learns from a dataset"),
        (bool(config.population.size), "for each member of a population"),
        (not config.ray.actors, "beside the actor: set ray.actors (--actors), too"),
    ):
        if there and config.ray.learners > 1:
            raise UserError(f"ray.learners is {config.ray.learners}, but there is one learner {where}")


def check_trains(config: Config, agent: Agent) -> None:
    """Raise UserError if a run of that length cannot come to a single learner_step, or leaves tasks out.

    What depends on how episodes go is not known yet: a run that came to none says so when it is over, see `Run.finish`.
    """
    check_shares(config.env.id, config.env.num_envs, config.ray.actors)
    windows, replay, streams = build_windows(config, agent), config.replay, config.env.num_envs
    total = run_length(config, agent.env.action_repeat).env_steps
    longer = "make the run longer (--env_steps, --frames)"
    if config.run.prefill > total:
        raise UserError(
            f"nothing would be trained: run.prefill is {config.run.prefill} env_steps, the whole run has {total}; "
            f"{longer} or run.prefill smaller"
        )
    rows = -(-total // streams)
    if windows.length > rows:
        parts = f"context {windows.context}, learn {windows.learn}, lookahead {windows.lookahead}"
        raise UserError(
            f"nothing would be trained: a window has {windows.length} rows ({parts}), but each of the {streams} "
            f"streams makes {rows} env_steps in this run of {total}; {longer}, or replay.window or env.num_envs smaller"
        )
    drawn_once = streams * ((rows - windows.length) // windows.period + 1)
    fresh = replay.selector.fresh(replay.batch)
    if replay.selector.uses_up and drawn_once < fresh:
        raise UserError(
            f"nothing would be trained: a batch has {fresh} windows, each of which is drawn once, and this run "
            f"of {total} env_steps has {drawn_once}; {longer} or replay.batch smaller"
        )


def size_line(room: Room, total: int, acts: bool = True) -> str:
    """Line that says how much the replay may take, and how much of the run, or of its dataset, it holds.

    total: rows to come; acts: whether they are the run's own.
    """
    rows, there = room.rows, memory_of(room.place)
    holds = "the whole run" if acts else "the whole dataset"
    if rows < total:
        holds = f"the newest {rows:,} rows" + (f" of {total:,} env_steps" if acts else " of the dataset")
    filled = room.nbytes * min(1.0, total / rows)
    return f"replay: {in_words(filled)} when full, of {in_words(there.total)} of memory; it holds {holds}"


class Pace:
    """Clock of the first minute of training, after which the hours to come can be told. total: env_steps of the run."""

    def __init__(self, total: int) -> None:
        self.total, self.told = total, False
        self.since: tuple[float, int] | None = None

    def line(self, seconds: float, env_steps: int, learner_steps: int) -> str:
        """Line that says how long the rest takes, once a minute of training is measured; empty at other times.

        What comes before the first learner_step is left out: filling a replay goes faster than training.
        """
        if self.told or not learner_steps:
            return ""
        if self.since is None:
            self.since = (seconds, env_steps)
        past, made = seconds - self.since[0], env_steps - self.since[1]
        if past < MINUTE or not made:
            return ""
        self.told = True
        left = (self.total - env_steps) * past / made
        return f"about {_duration(left)} to go, at the {made / past:,.1f} env_steps/s of the first minute of training"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"
