"""What is asked of a run, held against what the run will have, before anything of it is built."""

from __future__ import annotations

from reverie.agents.agent import Agent
from reverie.config import Config
from reverie.envs.tasks import check_shares
from reverie.errors import UserError
from reverie.run.build import build_windows
from reverie.run.length import run_length


def check_one_learner(config: Config) -> None:
    """Raise UserError if several learners are asked for where there is one."""
    for there, where in (
        (bool(config.dataset.path), "where a run learns from a dataset"),
        (bool(config.population.size), "for each member of a population"),
        (not config.ray.actors, "beside the actor: set ray.actors (--actors), too"),
    ):
        if there and config.ray.learners > 1:
            raise UserError(f"ray.learners is {config.ray.learners}, but there is one learner {where}")


def check_draws(config: Config, agent: Agent) -> None:
    """Raise UserError where the agent's losses do not hold for what would be drawn, or draws would not be as asked."""
    selector, batch = config.replay.selector, config.replay.batch
    if not agent.reuses and not (selector.uses_up and selector.fresh(batch) == batch):
        raise UserError(
            f"{config.name} learns each row once, as it is acted: replay.selector = fifo with share 0 and "
            "run.train_ratio = none draw it so; impala corrects for rows that it learns again"
        )
    if not agent.priorities and selector.by_priority:
        raise UserError(
            f"{config.name} gives no priorities back, so that nothing would be drawn by priority: set "
            "replay.selector.alpha to 0, or replay.selector to another, as uniform"
        )


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
