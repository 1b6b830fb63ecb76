"""`make_env` and `make_single`: environments by id, or as a run has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

from reverie.config import Config
from reverie.envs import make
from reverie.envs.env import VectorEnv
from reverie.envs.single import single
from reverie.envs.wrappers import Carried
from reverie.run.build import build_env
from reverie.run.checkpoint import Checkpoints
from reverie.run.saved_config import load_config
from reverie.run.tree import load_tree
from reverie.run.zoo import resolve


def make_env(id: str | Path, *, num_envs: int = 1, protocol: str = "auto", **options: Any) -> VectorEnv:
    """Make `num_envs` streams of an environment, with running means of its wrappers as at the end of the run.

    id: a run directory or ``zoo/<name>``, for its environment with the protocol and the options that it was trained
    with, or what `reverie.envs.make.make_env` takes. protocol, options: count before those of the run.

    Raises UserError as that does, and for a run directory that cannot be read.
    """
    run_dir = resolve(id)
    if not (run_dir / "config.json").is_file():
        return make.make_env(str(id), num_envs=num_envs, protocol=protocol, **options)
    env = load_config(run_dir).env
    protocol = env.protocol if protocol == "auto" else protocol
    world = make.make_env(env.id, num_envs=num_envs, protocol=protocol, **{**env.options, **options})
    return carrying(world, carried_of(run_dir))


def build_world(
    config: Config, streams: int, carried: Carried | None, drawn: bool = False, whole: bool = False
) -> VectorEnv:
    """Environments of a configuration, whose wrappers carry what a run's carried. See `carrying`, `build_env`."""
    return carrying(build_env(config, streams, drawn, whole), carried)


def carried_of(run_dir: Path, checkpoint: str = "latest") -> Carried | None:
    """What the wrappers of a run carried when a checkpoint was made; None: nothing, or nothing was saved yet."""
    checkpoints = Checkpoints(run_dir)
    if checkpoint == "latest" and not checkpoints.names():
        return None
    carried: Carried | None = load_tree(checkpoints.find(checkpoint), ("carried/",)).get("carried")
    return carried


def carrying(env: VectorEnv, carried: Carried | None) -> VectorEnv:
    """The same environments, whose wrappers carry that and keep it.

    Raises UserError if a run's wrappers carried something and these are others.
    """
    if carried is not None:
        env.adopt(carried)
    return env


def make_single(id: str | Path, *, protocol: str = "auto", **options: Any) -> gymnasium.Env:
    """One plain `gymnasium.Env`, whose own observations and actions `LoadedPolicy.act` takes and gives.

    Arguments are as in `make_env`. It is the environment that its author wrote, ``render_mode`` being one more option;
    where there is only a source of rows beneath (Atari, a `VectorEnv` of your own), it has the spaces of its rows.

    Raises UserError as `make_env` does, and where there is no single stream (see `reverie.envs.single.single`).
    """
    return single(make_env(id, protocol=protocol, **options))
