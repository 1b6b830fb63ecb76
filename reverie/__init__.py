"""Reverie: agents that remember and dream.

The names that most people need, imported when they are used::

    config = reverie.make_config("dreamerv2", "cpu", "toy/catch")
    reverie.train(config, "runs/catch")              # also: reverie.resume("runs/catch")
    reverie.evaluate("runs/catch", episodes=100)
    policy = reverie.load("runs/catch")
    env = reverie.make_single("runs/catch")          # or make_env, for many streams
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.agents.agent import Agent, Learner, Policy
    from reverie.data.dataset import open_dataset
    from reverie.play.envs import make_env, make_single
    from reverie.play.evaluate import evaluate
    from reverie.play.load import load
    from reverie.presets import make_config
    from reverie.report.writer import Writer
    from reverie.run.branch import branch
    from reverie.run.callback import Callback
    from reverie.run.train import resume, train

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Callback",
    "Learner",
    "Policy",
    "Writer",
    "branch",
    "evaluate",
    "load",
    "make_config",
    "make_env",
    "make_single",
    "open_dataset",
    "resume",
    "train",
]

_HOMES = {
    "Agent": "reverie.agents.agent",
    "Callback": "reverie.run.callback",
    "Learner": "reverie.agents.agent",
    "Policy": "reverie.agents.agent",
    "Writer": "reverie.report.writer",
    "branch": "reverie.run.branch",
    "evaluate": "reverie.play.evaluate",
    "load": "reverie.play.load",
    "make_config": "reverie.presets",
    "make_env": "reverie.play.envs",
    "make_single": "reverie.play.envs",
    "open_dataset": "reverie.data.dataset",
    "resume": "reverie.run.train",
    "train": "reverie.run.train",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module where it lives. Raises AttributeError for any other."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reverie' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted({*globals(), *__all__})
