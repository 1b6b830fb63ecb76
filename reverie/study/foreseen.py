"""What a run's world model foresees, for a document: what is there already, or a short dream made for it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reverie.agents.worldmodel import HasWorldModel
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.play.dream import dream
from reverie.play.foresight import report
from reverie.report import svg
from reverie.report.page import Budget, Facts, Figure, Gallery, Media, Text, data_uri
from reverie.report.words import number
from reverie.run.build import build_agent
from reverie.run.zoo import results_folder
from reverie.study.about import About

SEQUENCES, SHOWN = 20, 4
"""Held-out sequences of a dream that is made, and how many of them are shown."""


@dataclass(frozen=True)
class Foreseen:
    """Numbers of `reverie dream` or `reverie report`, and pictures of the dream, if there are any.

    made: whether it was made for the document. why: sentence where there is nothing.
    """

    numbers: Mapping[str, Any] | None = None
    film: Media | None = None
    strip: Media | None = None
    made: bool = False
    why: str = ""
    left_out: list[str] = field(default_factory=list)


def foresee(
    about: About, spec: EnvSpec | None, *, context: int | None, horizon: int, seed: int, make: bool, budget: Budget
) -> Foreseen:
    """What the newest networks of a run foresee. make: a dream, if there is none yet.

    context: rows that it sees first; None: a quarter of a short episode, at most 5.
    """
    home = results_folder(about.path)
    if about.dream is not None and (home / "videos" / "dream.gif").exists():
        film, strip = (budget.media(home / "videos" / name, "") for name in ("dream.gif", "dream.png"))
        return Foreseen(about.dream, film, strip)
    if about.config is None or spec is None or about.head is None:
        lacks = "networks to dream with" if about.head is None else "environment to dream of here"
        return Foreseen(about.prediction, why="" if about.prediction else f"Nothing was dreamed: there is no {lacks}.")
    if not isinstance(build_agent(about.config, spec), HasWorldModel):
        return Foreseen(why=f"{about.agent} has no world model, so there is no dream of it.")
    if not make:
        why = f"No dream was made for this page; `reverie dream {about.name}` makes one."
        return Foreseen(about.prediction, why="" if about.prediction else why)
    seen = context or _context(about)
    options: dict[str, Any] = {"context": seen, "horizon": horizon, "sequences": SEQUENCES, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = dream(about.path, episodes=SHOWN, out=Path(folder), **options)
        except UserError as no_picture:
            return _without_pictures(about, options, Path(folder), str(no_picture))
        film, strip = (
            Media(data_uri((Path(folder) / name).read_bytes(), Path(name).suffix), "")
            for name in ("dream.gif", "dream.png")
        )
    return Foreseen(found, film, strip, made=True)


def _without_pictures(about: About, options: dict[str, Any], folder: Path, why: str) -> Foreseen:
    """Numbers of a model that has no pictures to show."""
    if about.prediction is not None:
        return Foreseen(about.prediction)
    try:
        return Foreseen(report(about.path, out=folder, **options), made=True)
    except UserError as error:
        return Foreseen(why=f"Nothing was dreamed: {error if str(error) != why else why}")


def _context(about: About) -> int:
    lengths = [record["episode/length"] for record in about.records if "episode/length" in record]
    return max(1, min(5, int(np.median(lengths) + 1) // 4)) if lengths else 5


def blocks(about: About, foreseen: Foreseen) -> list[Any]:
    """Blocks of the section: pictures, errors over the horizon, hallucinated rewards."""
    if foreseen.numbers is None:
        return [Text(foreseen.why)] if foreseen.why else []
    numbers = foreseen.numbers
    context, steps = numbers.get("context"), numbers.get("env_steps")
    after = f"After {steps:,} env_steps of training" if isinstance(steps, int) else "In training"
    lead = (
        f"{after}, the model saw {context} rows of sequences that it was never trained on, and then only the actions "
        f"that were taken. {len_of(numbers)} sequences were dreamed, each once."
    )
    made = " This was made for this page." if foreseen.made else ""
    out: list[Any] = [Text(lead + made)]
    if foreseen.film is not None:
        film = "Truth above, dream in the middle, their difference below (grey: none); a column is a sequence."
        strip = "One sequence, from left to right: truth above, dream below."
        shown = [Media(foreseen.film.uri, film)]
        if foreseen.strip is not None:
            shown.append(Media(foreseen.strip.uri, strip))
        out.append(Gallery(shown))
    prediction = numbers.get("prediction", numbers)
    out += _errors(about.name, numbers, prediction)
    out += _rewards(prediction)
    return out


def len_of(numbers: Mapping[str, Any]) -> str:
    """How many sequences were dreamed, in words."""
    sequences = numbers.get("sequences")
    return str(sequences) if isinstance(sequences, int) else "Some"


def _errors(name: str, numbers: Mapping[str, Any], prediction: Mapping[str, Any]) -> list[Figure]:
    out = []
    for key, errors in prediction.get("observations", {}).items():
        series = {
            "dream": _points(errors["error"]),
            "repeating the last row that was seen": _points(errors["repeat_error"]),
        }
        caption = f"Error of the dreamed {key} by how far ahead it is, {name}."
        unit = "squared error per number"
        out.append(svg.lines(series, "env_steps since the last observation", unit, caption, zero=True))
    reward = prediction.get("reward")
    if reward:
        series = {"dream": _points(reward["error"]), "the best constant": _points(reward["constant_error"])}
        caption = f"Error of the dreamed reward by how far ahead it is, {name}."
        out.append(svg.lines(series, "env_steps since the last observation", "squared error", caption, zero=True))
    return out


def _points(errors: list[float | None]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([np.nan if error is None else error for error in errors], float)
    return np.arange(1, len(values) + 1), values


def _rewards(prediction: Mapping[str, Any]) -> list[Any]:
    """Rewards that the model makes up, misses, or foresees with the wrong sign."""
    rates = prediction.get("hallucination")
    if rates is None:
        return [Text("No reward was seen in these sequences, so that none could be called made up.")]

    def share(name: str, of: int, which: str) -> str:
        rate = rates.get(name)
        return f"there were no rows {which}" if rate is None else f"{100 * rate:.3g} % of {of:,} rows {which}"

    facts = {
        "rewards made up": share("hallucinated_rate", rates["rewardless"], "without a reward"),
        "rewards missed": share("missed_rate", rates["rewarded"], "with one"),
        "of the other sign": share("reversed_rate", rates["rewarded"], "with one"),
        "false among those foreseen": share("false_rate", rates["predicted"], "of which one was foreseen"),
        "a reward counts from": f"{number(rates['threshold'])} in size on",
    }
    continuation = prediction.get("continuation")
    if continuation:
        facts["going on, squared error"] = number(continuation["mean_error"])
    return [Facts(facts)]
