"""Open-loop prediction: what a world model dreams after a few observations, beside what really happened.

::

    rows        0 ... context-1        context ............ context+horizon-1
    the model   sees the frames        sees only the actions that were taken
    baseline    -                      repeats frame context-1

Source: PlaNet section 6 and DreamerV2 appendix (open-loop video prediction).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.agents.dreamerv2 import DreamerPolicy, DreamerV2
from reverie.data.rows import OBS, Rows
from reverie.envs.env import VectorEnv
from reverie.errors import UserError
from reverie.nets.encoders import is_image
from reverie.report.curves import error_by_horizon
from reverie.report.video import enlarge, side_by_side, strip, write_image, write_video
from reverie.run.build import build_env, build_learner, derive, pick_device
from reverie.run.load import load_modules
from reverie.run.roles import Actor
from reverie.run.saved_config import load_config


@dataclass(frozen=True)
class Prediction:
    """Of B held-out sequences. truth, dream: uint8 [B, T, H, W, C]; error, baseline: [B, horizon], NaN past the end.

    Errors are mean squared differences per pixel, with pixels in [0, 1].
    """

    truth: np.ndarray
    dream: np.ndarray
    error: np.ndarray
    baseline: np.ndarray


def held_out(env: VectorEnv, learner: DreamerV2, count: int, length: int, seed: int) -> list[Rows]:
    """`count` sequences of up to `length` rows [T, ...] played by the sampling policy, each within one episode.

    They begin at evenly spread rows: every `length` rows of a long episode, the first row of a short one.
    """
    sequences: list[Rows] = []
    streams: list[list[Rows]] = [[] for _ in range(env.num_envs)]

    def sink(rows: Rows, which: np.ndarray | None, state: Any) -> None:
        for i, stream in enumerate(range(env.num_envs) if which is None else which.tolist()):
            row = {name: value[i].copy() for name, value in rows.items()}
            if row["is_first"]:
                streams[stream] = []
            streams[stream].append(row)
            if len(streams[stream]) == length or row["is_last"]:
                if len(streams[stream]) > length // 4 or row["is_last"]:
                    part = streams[stream]
                    sequences.append({name: np.stack([r[name] for r in part]) for name in part[0]})
                streams[stream] = []

    actor = Actor(env, learner.policy, sink, seed)
    actor.start()
    while len(sequences) < count:
        actor.step()
    return sequences[:count]


def predict(learner: DreamerV2, sequence: Rows, key: str, context: int, horizon: int, samples: int) -> Prediction:
    """Dream one sequence `samples` times: the error is that of their mean picture, the picture shown is the first."""
    model, actions = learner.model, learner.actions
    length = context + horizon
    rows = {name: torch.from_numpy(value).to(learner.device)[:, None] for name, value in sequence.items()}
    rows = {name: value.expand(value.shape[0], samples, *value.shape[2:]) for name, value in rows.items()}
    actual = len(sequence["reward"])
    with torch.inference_mode():
        state = learner.policy.initial_state(samples)
        first = rows["is_first"].clone()
        first[0] = True
        seen = {name: value[:context] for name, value in (rows | {"is_first": first}).items()}
        posterior, state = learner.policy.unroll(state, seen, learner.uniform(context, samples, learner.policy.noise))
        features = [model.rssm.feature({n: v[t] for n, v in posterior.items()}) for t in range(context)]
        for t in range(context, actual):
            u = learner.uniform(samples, model.rssm.latent.noise)
            state = model.rssm.imagine_step(state, actions.encode(rows["prev_action"][t]), u)
            features.append(model.rssm.feature(state))
        picture = _unit(model.decoder(torch.stack(features))[key])
    truth = torch.from_numpy(sequence[OBS + key]).float().div(255)
    error = np.full(horizon, np.nan)
    baseline = np.full(horizon, np.nan)
    after = slice(context, actual)
    mean = picture.mean(1).cpu()
    error[: actual - context] = _mse(mean[after], truth[after])
    baseline[: actual - context] = _mse(truth[context - 1 : context], truth[after])
    shown = picture[:, 0].cpu().mul(255).round().byte().numpy()
    return Prediction(_pad(sequence[OBS + key], length)[None], _pad(shown, length)[None], error[None], baseline[None])


def _unit(mean: Tensor) -> Tensor:
    """Decoder output [..., C, H, W] in [-0.5, 0.5] -> [..., H, W, C] in [0, 1]."""
    return (mean.float() + 0.5).clamp(0, 1).movedim(-3, -1)


def _mse(a: Tensor, b: Tensor) -> np.ndarray:
    return ((a - b) ** 2).flatten(1).mean(1).numpy()


def _pad(frames: np.ndarray, length: int) -> np.ndarray:
    """White frames after the end of a short episode."""
    missing = length - len(frames)
    return np.concatenate([frames, np.full((missing, *frames.shape[1:]), 255, np.uint8)]) if missing else frames


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
    """Predict held-out sequences of a run in open loop; write a GIF, a film strip, a plot and ``dream.json``.

    context: rows seen. horizon: env_steps dreamed. episodes: sequences shown. samples: dreams averaged for the error.
    sequences: held-out sequences that the error is a mean over. Returns what the JSON holds.
    Raises UserError if the agent has no world model or the environment no images.
    """
    run_dir = Path(run_dir)
    out = Path(out) if out else run_dir / "videos"
    config = load_config(run_dir)
    env = build_env(config, 4)
    images = [key for key, space in env.spec.observation.items() if is_image(space)]
    if not images:
        raise UserError(f"{config.env.id} has no image observations to dream of; `reverie eval {run_dir}` plays it")
    learner = build_learner(config, env.spec, pick_device(device))
    if not isinstance(learner, DreamerV2) or not isinstance(learner.policy, DreamerPolicy):
        raise UserError(f"{config.name} has no world model to dream with")
    env_steps = load_modules(learner, run_dir)
    learner.generator.manual_seed(derive(seed, "dream"))
    held = held_out(env, learner, max(sequences, episodes), context + horizon, derive(seed, "held-out"))
    env.close()
    held = [sequence for sequence in held if len(sequence["reward"]) > context]
    if not held:
        raise UserError(f"episodes of {config.env.id} are shorter than {context + 1} rows; use a smaller --context")
    parts = [predict(learner, sequence, images[0], context, horizon, samples) for sequence in held]
    error, valid = _mean([p.error for p in parts])
    baseline, _ = _mean([p.baseline for p in parts])
    reach = int((valid > 0).sum())
    truth = np.concatenate([p.truth for p in parts[:episodes]])
    dreamed = np.concatenate([p.dream for p in parts[:episodes]])
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "gif": out / "dream.gif",
        "strip": out / "dream.png",
        "plot": out / "dream_error.png",
        "json": out / "dream.json",
    }
    shown = context + reach
    write_video(files["gif"], side_by_side(enlarge(truth[:, :shown]), enlarge(dreamed[:, :shown])), fps=8)
    columns = sorted(
        {*range(0, context, max(context // 2, 1)), *np.linspace(context, shown - 1, 10).astype(int).tolist()}
    )
    write_image(files["strip"], strip([enlarge(truth[0, columns]), enlarge(dreamed[0, columns])]))
    title = f"{config.name} on {config.env.id}: open loop after {context} frames"
    error_by_horizon({"dream": error[:reach], "repeat last frame": baseline[:reach]}, files["plot"], title=title)
    result = {
        "env": config.env.id,
        "agent": config.name,
        "env_steps": env_steps,
        "context": context,
        "horizon": reach,
        "sequences": len(held),
        "samples": samples,
        "unit": "mean squared error per pixel, pixels in [0, 1]",
        "dream_error": [float(e) for e in error[:reach]],
        "repeat_error": [float(e) for e in baseline[:reach]],
        "sequences_at_horizon": [int(n) for n in valid[:reach]],
        "files": {name: str(path) for name, path in files.items()},
    }
    files["json"].write_text(json.dumps(result, indent=2) + "\n")
    return result


def _mean(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over sequences that reach each horizon, and how many do."""
    stacked = np.concatenate(rows)
    valid = (~np.isnan(stacked)).sum(0)
    return np.nansum(stacked, 0) / np.maximum(valid, 1), valid
