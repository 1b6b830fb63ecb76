"""Evaluations of a run: episodes played greedily on fresh environments, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.agents.policy import Policy
from reverie.config import Config
from reverie.envs.env import VectorEnv, shut
from reverie.envs.faults import EnvFault
from reverie.envs.tasks import label
from reverie.envs.wrappers import Carried
from reverie.errors import notice
from reverie.report.record import as_name
from reverie.run.build import build_env, derive, evaluation_streams
from reverie.run.roles import Evaluator, Stopped, cut_line


@dataclass(frozen=True)
class Evaluation:
    """What was played. summary: for the run's result and its checkpoints; metrics: for a line of its log."""

    summary: dict[str, Any]
    metrics: dict[str, float]


def rehearse(config: Config, carried: Carried | None) -> None:
    """Make the environments of an evaluation, and close them, where they are the user's own.

    What cannot be opened twice, or is one object for all, is found before the run and not at its end.
    """
    if config.run.eval_episodes and ":" in config.env.id:
        with _faults():
            shut(_environments(config, carried))


def evaluate(
    config: Config, policy: Policy, env_steps: int, carried: Carried | None, stop: Callable[[], bool]
) -> Evaluation | None:
    """Play as many episodes as the configuration says, of every task; None if it was asked to stop before the end.

    env_steps: behind the policy, which give the environments their seeds. carried: what wrappers of the environments
    that are trained on have come to know. Raises EnvFault if one fails.
    """
    options = config.run
    with _faults():
        env = _environments(config, carried)
        try:
            seed = derive(options.seed, f"evaluation {env_steps}")
            evaluator = Evaluator(env, policy, options.eval_episodes, seed, options.eval_limit, options.nonfinite)
            results = evaluator.run(stop=stop)
        except Stopped:
            return None
        finally:
            shut(env)
    if results["cut"]:
        notice(cut_line(results["cut"], len(results["scores"]), options.eval_limit))
    return _told(results)


@contextmanager
def _faults() -> Iterator[None]:
    """Say of faults within that they are of an evaluation."""
    try:
        yield
    except EnvFault as fault:
        raise fault.told("evaluation: ", "; run.eval_episodes 0 trains without evaluations") from fault


def _environments(config: Config, carried: Carried | None) -> VectorEnv:
    env = build_env(config, evaluation_streams(config, config.run.eval_episodes), whole=True)
    if carried is not None:
        env.adopt(carried)
    return env


def _told(results: dict[str, Any]) -> Evaluation:
    """What is told of the results of an `Evaluator`."""
    scores, cut = results["scores"], results["cut"]
    tasks = {task: float(np.mean(each)) for task, each in results.get("tasks", {}).items()}
    summary: dict[str, Any] = {"eval_score": float(np.mean(scores)), "eval_scores": scores}
    metrics = {f"eval/{as_name(name)}": value for name, value in results["info"].items()}
    metrics |= {
        "eval/score": float(np.mean(scores)),
        "eval/score_median": float(np.median(scores)),
        "eval/score_min": float(np.min(scores)),
        "eval/episodes": len(scores),
    }
    if tasks:
        summary["eval_tasks"] = tasks
        metrics |= {f"task/{label(task)}/eval_score": score for task, score in tasks.items()}
    if cut:
        summary["eval_cut"] = cut
        metrics["eval/cut"] = cut
    return Evaluation(summary, metrics)
