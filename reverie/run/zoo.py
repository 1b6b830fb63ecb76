"""The zoo: small trained models that come with the package, by names that stand where a run directory does.

::

    reverie/zoo/<name>/   config.json, checkpoints/   of the run; of its checkpoint what ``best`` has, networks only
                          metrics.jsonl               its log, with fewer lines
                          evaluation.json             what `reverie eval` measured
                          entry.json                  where it comes from, and what to compare it with
                          card.json, README.md        the model card

``zoo/<name>`` is resolved where a run is named, in commands and in the functions behind them. A folder of that name in
the current directory wins. Nothing is ever written into the package: results go to ``zoo-<name>`` in the current
directory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.errors import UserError, suggest

FOLDER = Path(__file__).parents[1] / "zoo"
"""of the models"""
PREFIX = "zoo"


@dataclass(frozen=True)
class Entry:
    """A model of the zoo. about: what it shows, one sentence. command: that trained it. minutes: that this took.

    machine: where. score: mean return of `episodes` greedy episodes, from `seed`. random, best: returns of uniformly
    random actions and of the best policy, to compare it with.
    """

    name: str
    path: Path
    about: str
    command: str
    minutes: float
    machine: str
    agent: str
    env: str
    env_steps: int
    score: float
    score_std: float
    episodes: int
    seed: int
    random: float
    best: float

    @property
    def size(self) -> int:
        """Bytes of its checkpoint."""
        return sum(path.stat().st_size for path in (self.path / "checkpoints").rglob("*") if path.is_file())


def names() -> list[str]:
    """Names of the models, without ``zoo/``."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def entries() -> list[Entry]:
    """The models of the zoo. Raises UserError if the files of one are damaged."""
    return [read_entry(FOLDER / name) for name in names()]


def read_entry(path: Path) -> Entry:
    """The model in a folder. Raises UserError if its files are damaged."""
    try:
        about, evaluation, document = (
            json.loads((path / f"{name}.json").read_text()) for name in ("entry", "evaluation", "config")
        )
        config = document["config"]
        return Entry(
            path.name,
            path,
            **{key: about[key] for key in ("about", "command", "minutes", "machine", "random", "best")},
            agent=config["name"],
            env=config["env"]["id"],
            **{key: evaluation[key] for key in ("env_steps", "score", "score_std", "episodes", "seed")},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the zoo's {path.name} is damaged ({type(error).__name__}: {error}); install the package anew"
        ) from error


def resolve(run: str | Path) -> Path:
    """The directory of a run that is named: itself, or that of ``zoo/<name>`` in the package.

    Raises UserError, with near names, for a ``zoo/<name>`` that is neither a folder here nor a model of the zoo.
    """
    path = Path(run)
    if path.exists() or len(path.parts) != 2 or path.parts[0] != PREFIX:
        return path
    name = path.parts[1]
    known = names()
    if name not in known:
        raise UserError(f"the zoo has no model {name!r}{suggest(name, known)}; `reverie zoo` lists them")
    return FOLDER / name


def model_name(run_dir: Path) -> str | None:
    """Name of a model if this is its directory in the package, else None."""
    here = run_dir.resolve()
    return here.name if here.parent == FOLDER.resolve() else None


def results_folder(run_dir: Path) -> Path:
    """Folder of what is made with a run: its own, or ``zoo-<name>`` in the current directory for a model of the zoo."""
    name = model_name(run_dir)
    return run_dir if name is None else Path(f"{PREFIX}-{name}")


def check_whole(run_dir: Path) -> None:
    """Raise UserError for a model of the zoo, which has nothing to go on from."""
    if (name := model_name(run_dir)) is not None:
        raise UserError(
            f"{PREFIX}/{name} has networks only, no rows and no state to go on from; begin a run with them by: "
            f"reverie train ... --init {PREFIX}/{name}"
        )


def as_named(run_dir: Path) -> str:
    """A run's directory as one names it: ``zoo/<name>`` for a model of the zoo."""
    name = model_name(run_dir)
    return str(run_dir) if name is None else f"{PREFIX}/{name}"


def summary(entry: Entry) -> dict[str, Any]:
    """What `reverie zoo` shows of a model."""
    return {
        "model": f"{PREFIX}/{entry.name}",
        "agent": entry.agent,
        "env": entry.env,
        "score": entry.score,
        "score_std": entry.score_std,
        "episodes": entry.episodes,
        "seed": entry.seed,
        "random": entry.random,
        "best": entry.best,
        "bytes": entry.size,
        "minutes": entry.minutes,
        "machine": entry.machine,
        "command": entry.command,
        "about": entry.about,
    }
