"""The prediction report of a world model: what it foresees of held-out sequences, and which rewards it makes up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.envs.env import shut
from reverie.errors import UserError
from reverie.play.model import LoadedModel, held_out, load_model
from reverie.play.open_loop import OpenLoop, frames, join, open_loop
from reverie.report.document import beside, write_whole
from reverie.report.prediction import Outcomes, check_threshold, false_mass, reward_threshold, summarise
from reverie.report.prediction_figure import draw_prediction
from reverie.report.record import to_json
from reverie.report.reward_video import Episode, reward_video
from reverie.run.saved_config import load_chain
from reverie.run.zoo import resolve, results_folder

BATCH = 16
"""Sequences dreamed at once."""


def measures(loaded: LoadedModel, outcomes: Outcomes, threshold: float | None = None) -> dict[str, Any]:
    """Measures of `reverie.report.prediction.summarise`, with their units.

    threshold: of a reward, in the model's units; None: half of the smallest magnitude that is not zero in the outcomes.
    Raises UserError if a prediction is not a finite number.
    """
    valid = outcomes.valid
    if not np.isfinite(outcomes.predicted_reward[valid]).all():
        raise UserError("the model predicts rewards that are not finite: the run has diverged; train it anew")
    if threshold is None:
        threshold = reward_threshold(outcomes.reward[valid])
    transform = loaded.model.reward.transform
    units = {
        "observations": "mean squared error per number; pixels in [0, 1]",
        "reward": "reward" if transform == "identity" else f"{transform}(reward), as the model learns it",
        "continuation": "probability that the episode does not truly end with this row",
    }
    return {"units": units, **summarise(outcomes, threshold)}


def report(
    run_dir: str | Path,
    *,
    context: int = 5,
    horizon: int = 45,
    sequences: int = 100,
    random_play: bool = False,
    threshold: float | None = None,
    gif: bool = False,
    episodes: int = 3,
    out: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures of predictions in open loop; writes ``prediction.json`` and ``.png`` to `out` [run_dir/report].

    context: rows seen. horizon: env_steps dreamed at most. sequences: how many, one dream of each. random_play: by
    uniformly random actions instead of the sampling policy, so that all agents meet the same behaviour. threshold: see
    `measures`. gif: also ``prediction.gif``, the `episodes` sequences with the most false reward (`reverie.report.
    prediction.false_mass`). Returns what the JSON holds, ``changes`` of the configuration in the middle of the run too.

    Raises UserError if the agent has no world model, episodes are not longer than `context`, or `gif` has no images.
    """
    run_dir = resolve(run_dir)
    out = Path(out) if out else results_folder(run_dir) / "report"
    check_threshold(threshold)
    loaded = load_model(run_dir, device, seed)
    try:
        if gif and not loaded.images:
            raise UserError(f"{loaded.config.env.id} has no image observations to show; leave out --gif")
        held_sequences = held_out(loaded, sequences, context, horizon, seed, random_play)
    finally:
        shut(loaded.env)
    outcomes: list[Outcomes] = []
    films: list[Episode] = []
    for begin in range(0, len(held_sequences), BATCH):
        dreamed = open_loop(loaded, held_sequences[begin : begin + BATCH], context)
        outcomes.append(dreamed.outcomes(horizon))
        if gif:
            films += _episodes(dreamed, loaded.images[0])
    whole = join(outcomes)
    measured = measures(loaded, whole, threshold)
    config = loaded.config
    result = {
        "env": config.env.id,
        "agent": config.name,
        "env_steps": loaded.env_steps,
        "context": context,
        "sequences": len(held_sequences),
        "play": "random" if random_play else "policy",
        "seed": seed,
        **({"changes": changes} if (changes := load_chain(run_dir).lines()) else {}),
        **measured,
    }
    with beside("the report"):
        files = {"json": str(out / "prediction.json"), "png": str(out / "prediction.png")}
        out.mkdir(parents=True, exist_ok=True)
        title = f"{config.name} on {config.env.id}: open loop after {context} rows"
        draw_prediction(measured, out / "prediction.png", title)
        if gif:
            limit = None if measured["hallucination"] is None else measured["hallucination"]["threshold"]
            worst = np.argsort(-false_mass(whole, limit), kind="stable")[:episodes]
            reward_video([films[i] for i in worst], context, limit, out / "prediction.gif")
            files["gif"] = str(out / "prediction.gif")
        write_whole(out / "prediction.json", to_json(result | {"files": files}, 2) + "\n")
        result["files"] = files
    return result


def _episodes(dreamed: OpenLoop, key: str) -> list[Episode]:
    """Sequences of a batch, each cut to its own length."""
    true, predicted = frames(dreamed.true[key]), frames(dreamed.predicted[key])
    lengths: Sequence[int] = dreamed.valid.sum(0).tolist()
    return [
        Episode(true[:n, i], predicted[:n, i], dreamed.reward[:n, i], dreamed.predicted_reward[:n, i])
        for i, n in enumerate(lengths)
    ]
