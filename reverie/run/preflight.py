"""What is asked of a run, held against what the run will have, before anything of it is built."""

from __future__ import annotations

from reverie.agents.agent import Agent
from reverie.config import Config
from reverie.errors import UserError
from reverie.run.build import build_windows
from reverie.run.length import run_length


def check_trains(config: Config, agent: Agent) -> None:
    """Raise UserError if a run of that length cannot come to a single learner_step.

    What depends on how episodes go is not known yet: a run that came to none says so when it is over, see `Run.finish`.
    """
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
    if replay.selector.uses_up and drawn_once < replay.batch:
        raise UserError(
            f"nothing would be trained: a batch has {replay.batch} windows, each of which is drawn once, and this run "
            f"of {total} env_steps has {drawn_once}; {longer} or replay.batch smaller"
        )
