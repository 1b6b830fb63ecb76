"""What a run keeps from its beginning to its end; everything else may change, see `reverie.run.transition`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.config import Config
from reverie.errors import UserError
from reverie.nets.optim import OptimConfig
from reverie.overrides import is_below
from reverie.run.chain import differences
from reverie.run.checkpoint import Misfit

FIXED = {
    "name": "another agent has other networks",
    "preset": "a preset only names where the values came from",
    "init": "a run begins once",
    "population": "a population keeps its members and its rules",
    "dataset": "a run keeps the rows that it began with",
    "env.id": "another environment is another task",
    "ray.actors": "the replay and the open episodes have places for their streams",
    "ray.inference": "recurrent states and open episodes are saved where the policy is",
    "ray.shards": "each shard keeps the rows of its streams",
    "agent.workers": "each worker has streams, rows and parameters of its own",
    "env.num_envs": "the replay and the open episodes have a place for each stream",
    "replay.window": "the replay is laid out for its windows",
    "replay.selector.kind": "each selector keeps its own state",
    "replay.selector.whole": "windows that were stored before are kept as they were",
    "replay.selector.alpha": "stored priorities were raised to the old power",
    "replay.store.budget": "the replay is laid out for its size",
    "replay.store.chunk": "the files on disk have that length",
}
"""Keys, or groups of keys, that a run keeps, and why."""
_COUNTED = "its env_steps are counted by it, because nobody acts"
_ALONE = "nobody acts beside its learner"
FIXED_OFFLINE = {
    "run.train_ratio": _COUNTED,
    "run.prefill": _COUNTED,
    "run.pretrain": _COUNTED,
    "replay.batch": _COUNTED,
    "run.publish_every": _ALONE,
    "run.overlap": _ALONE,
}
"""Those that a run which learns from a dataset keeps, too: see `reverie.run.offline.OfflineClock`."""


def check_change(old: Config, new: Config) -> None:
    """Raise UserError, naming the first key and the way out, if a run cannot go on with `new` after `old`."""
    kinds = [f"agent.{path}" for path in _optimisers(old.agent)]
    kept = FIXED | (FIXED_OFFLINE if old.dataset.path else {})
    for key in differences(old, new):
        why = next((kept[fixed] for fixed in kept if is_below(key, [fixed])), None)
        if key.rpartition(".")[0] in kinds and key.endswith(".kind"):
            why = "each rule keeps moments of its own"
        if why is not None:
            raise UserError(f"{key} cannot change in the middle of a run: {why}; {way_out(old)}")


def way_out(config: Config) -> str:
    """What to do where a run cannot go on as wanted."""
    return (
        f"begin another run from its networks, or from those parts of them that fit (--init.parts): reverie train "
        f"{config.name} --init RUN ..."
    )


def misfitting(run_dir: Path, changes: Mapping[str, Any], error: UserError, old: Config) -> UserError:
    """What to say where a checkpoint of a run under `old` does not fit the parts that `changes` make."""
    reason = error.reason if isinstance(error, Misfit) else str(error)
    return UserError(f"{run_dir} cannot go on with another {', '.join(changes)}: {reason}; {way_out(old)}")


def _optimisers(config: object, prefix: str = "") -> list[str]:
    """Dotted names of the optimisers' settings in an agent's."""
    names = []
    for name, value in vars(config).items():
        if isinstance(value, OptimConfig):
            names.append(prefix + name)
        elif hasattr(value, "__dataclass_fields__"):
            names += _optimisers(value, f"{prefix}{name}.")
    return names
