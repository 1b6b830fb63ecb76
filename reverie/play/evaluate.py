"""Evaluation of a run directory: the newest policy, its mode, on fresh environments with the training protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.rows import OBS, Rows
from reverie.envs.env import shut
from reverie.errors import notice
from reverie.nets.encoders import is_image
from reverie.play.dream_score import score_in_dream
from reverie.play.load import load
from reverie.report.video import write_video
from reverie.run.build import build_env, derive
from reverie.run.roles import Evaluator, cut_line
from reverie.run.saved_config import load_config


def evaluate(
    run_dir: str | Path,
    *,
    episodes: int = 10,
    video: bool = False,
    in_dream: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Scores, lengths (env_steps) and means of `episodes` episodes, also written to ``evaluation.json``.

    video: also write the first stream's frames to ``videos/`` (needs image observations). in_dream: play as many in the
    agent's own world model too, see `reverie.play.dream_score`, as ``in_dream``.
    Raises UserError if in_dream is asked of an agent that has no world model that can be played in.
    """
    run_dir = Path(run_dir)
    dreamed = score_in_dream(run_dir, episodes=episodes, seed=seed, device=device) if in_dream else None
    config = load_config(run_dir)
    loaded = load(run_dir, device)
    env = build_env(config, min(config.run.eval_envs, episodes))
    images = [OBS + key for key, space in env.spec.observation.items() if is_image(space)]
    frames: list[np.ndarray] = []

    def watch(rows: Rows) -> None:
        frames.append(rows[images[0]][0].copy())

    limit = config.run.eval_limit
    evaluator = Evaluator(env, loaded.policy, episodes, derive(seed, "evaluation"), limit, config.run.nonfinite)
    results = evaluator.run(watch if video and images else None)
    shut(env)
    scores, cut = results["scores"], results["cut"]
    if cut:
        notice(cut_line(cut, len(scores), limit))
    result = {
        "env": config.env.id,
        "env_steps": loaded.env_steps,
        "episodes": len(scores),
        "cut": cut,
        "score": float(np.mean(scores)),
        "score_std": float(np.std(scores)),
        "score_median": float(np.median(scores)),
        "scores": scores,
        "lengths": results["lengths"],
        "info": results["info"],
        "seed": seed,
    }
    if dreamed is not None:
        result["in_dream"] = dreamed
    if frames:
        path = run_dir / "videos" / f"evaluation_{loaded.env_steps}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, np.stack(frames), fps=60 // env.spec.action_repeat if env.spec.action_repeat > 1 else 15)
        result["video"] = str(path)
    (run_dir / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result
