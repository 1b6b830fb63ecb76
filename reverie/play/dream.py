"""Dreams to look at: what a world model predicts after a few observations, beside what really happened.

The model sees the first frames of held-out sequences and then only the actions (`reverie.play.open_loop`); the baseline
repeats the last frame that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs.env import shut
from reverie.errors import UserError
from reverie.play.foresight import measures
from reverie.play.model import LoadedModel, held_out, load_model
from reverie.play.open_loop import frames, join, open_loop
from reverie.report.curves import error_by_horizon
from reverie.report.document import check_folder, write_whole
from reverie.report.prediction import Outcomes
from reverie.report.record import to_json
from reverie.report.video import enlarge, side_by_side, strip, write_image, write_video
from reverie.run.zoo import as_named, resolve, results_folder


@dataclass(frozen=True)
class Prediction:
    """Prediction of one held-out sequence. truth, dream: uint8 [T, H, W, C], white after its end.

    error, baseline: [horizon], NaN after its end; mean squared differences per pixel, with pixels in [0, 1].
    outcomes: of all heads, [horizon, samples].
    """

    truth: np.ndarray
    dream: np.ndarray
    error: np.ndarray
    baseline: np.ndarray
    outcomes: Outcomes


def predict(loaded: LoadedModel, sequence: Rows, key: str, context: int, horizon: int, samples: int) -> Prediction:
    """Prediction of one sequence by `samples` dreams: the error is of their mean picture, the picture is the first."""
    dreamed = open_loop(loaded, [sequence] * samples, context)
    pictures, true = dreamed.predicted[key], dreamed.true[key][context:, 0]
    mean = ((pictures[context:].mean(1) - true) ** 2).reshape(len(true), -1).mean(1)
    outcomes = dreamed.outcomes(horizon)
    end, missing = context + horizon, (0, horizon - len(true))
    return Prediction(
        _white(sequence[OBS + key], end),
        _white(frames(pictures[:, 0]), end),
        np.pad(mean, missing, constant_values=np.nan),
        np.where(outcomes.valid[:, 0], outcomes.observations[key][1][:, 0], np.nan),
        outcomes,
    )


def _white(pictures: np.ndarray, length: int) -> np.ndarray:
    """White frames after the end of a short episode."""
    missing = length - len(pictures)
    return np.concatenate([pictures, np.full((missing, *pictures.shape[1:]), 255, np.uint8)]) if missing else pictures


def dream(
    run_dir: str | Path,
    *,
    context: int = 5,
    horizon: int = 45,
    episodes: int = 6,
    out: Path | None = None,
    samples: int = 1,
    sequences: int = 40,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Errors of predictions of held-out sequences in open loop; writes a GIF, a film strip, a plot and ``dream.json``.

    The JSON's section ``prediction`` has what `reverie report` measures (errors and calibration of reward and
    continuation, hallucinated rewards), of the same dreams.

    context: rows seen. horizon: env_steps dreamed. episodes: sequences shown. samples: dreams averaged for the error.
    sequences: held-out sequences that the error is a mean over. Returns what the JSON holds.
    Raises UserError if the agent has no world model or the environment no images.
    """
    run_dir = resolve(run_dir)
    out = Path(out) if out else results_folder(run_dir) / "videos"
    loaded = load_model(run_dir, device, seed)
    config, images = loaded.config, loaded.images
    try:
        if not loaded.model.objective.tells:
            raise UserError(
                f"the model of {config.name} says nothing about observations, so there is no dream to look at; "
                f"`reverie report {as_named(run_dir)}` has numbers"
            )
        if not images:
            raise UserError(
                f"{config.env.id} has no image observations to dream of; `reverie report {as_named(run_dir)}` has "
                "numbers"
            )
        check_folder(out)
        held_sequences = held_out(loaded, max(sequences, episodes), context, horizon, seed)
    finally:
        shut(loaded.env)
    parts = [predict(loaded, sequence, images[0], context, horizon, samples) for sequence in held_sequences]
    error, valid = _mean([p.error for p in parts])
    baseline, _ = _mean([p.baseline for p in parts])
    reach = int((valid > 0).sum())
    truth = np.stack([p.truth for p in parts[:episodes]])
    dreamed = np.stack([p.dream for p in parts[:episodes]])
    files = {
        "gif": out / "dream.gif",
        "strip": out / "dream.png",
        "plot": out / "dream_error.png",
        "json": out / "dream.json",
    }
    length = context + reach
    write_video(files["gif"], side_by_side(enlarge(truth[:, :length]), enlarge(dreamed[:, :length])), fps=8)
    columns = sorted(
        {*range(0, context, max(context // 2, 1)), *np.linspace(context, length - 1, 10).astype(int).tolist()}
    )
    write_image(files["strip"], strip([enlarge(truth[0, columns]), enlarge(dreamed[0, columns])]))
    title = f"{config.name} on {config.env.id}: open loop after {context} frames"
    error_by_horizon({"dream": error[:reach], "repeat last frame": baseline[:reach]}, files["plot"], title=title)
    result = {
        "env": config.env.id,
        "agent": config.name,
        "env_steps": loaded.env_steps,
        "context": context,
        "horizon": reach,
        "sequences": len(held_sequences),
        "samples": samples,
        "unit": "mean squared error per pixel, pixels in [0, 1]",
        "dream_error": [float(e) for e in error[:reach]],
        "repeat_error": [float(e) for e in baseline[:reach]],
        "sequences_at_horizon": [int(n) for n in valid[:reach]],
        "prediction": measures(loaded, join([p.outcomes for p in parts])),
        "files": {name: str(path) for name, path in files.items()},
    }
    write_whole(files["json"], to_json(result, 2) + "\n")
    return result


def _mean(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over sequences that reach each horizon, and their number."""
    stacked = np.stack(rows)
    valid = (~np.isnan(stacked)).sum(0)
    return np.nansum(stacked, 0) / np.maximum(valid, 1), valid
