"""Reference scores of the 57 Atari games, and scores relative to them.

The table, its source and its convention for Video Pinball are in ``atari_scores.csv`` beside this file.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple, TypeVar

import numpy as np

from reverie.errors import UserError

Score = TypeVar("Score", float, np.ndarray)

GAME = "episode/game_return"
"""the metric that is the score of a whole game where a life is an episode"""

_ENV_ID = re.compile(r"ALE/(\w+?)(?:-ram)?-v\d+")


class Reference(NamedTuple):
    """Scores of one game: mean undiscounted returns."""

    random: float
    human: float


@cache
def atari_scores() -> dict[str, Reference]:
    """Game (snake case, ``ms_pacman``) -> scores of random play and of a human player; 57 games."""
    text = files("reverie.report").joinpath("atari_scores.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["game"]: Reference(float(row["random"]), float(row["human"])) for row in rows}


def reference(env_id: str) -> Reference | None:
    """Scores for an environment such as ``ALE/MsPacman-v5``, or None if it is not one of the 57 games."""
    matched = _ENV_ID.fullmatch(env_id)
    return _by_letters().get(matched[1].lower()) if matched else None


def human_normalised(env_id: str, score: Score) -> Score:
    """(score - random) / (human - random): 0 is random play, 1 the human player.

    score: mean return(s) of whole games with unclipped rewards. Raises UserError if `env_id` has no reference scores.
    """
    scores = reference(env_id)
    if scores is None:
        raise UserError(f"no human score is known for {env_id!r}; the 57 Atari games have one (ALE/MsPacman-v5)")
    return (score - scores.random) / (scores.human - scores.random)


@cache
def _by_letters() -> dict[str, Reference]:
    """The table by name without underscores: MsPacman, Upndown or UpNDown need no rule for capitals."""
    return {game.replace("_", ""): scores for game, scores in atari_scores().items()}
