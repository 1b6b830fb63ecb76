"""What a run's world model dreams that a catch pays, by the column of the ball: does the model miss it, or the actor?

    python benchmarks/catch_dreams.py --run runs/a runs/b --out results/catch/dreams.json

From 512 real first rows of `toy/catch` the model dreams as many steps as an episode has, with actions that bring the
paddle under the ball and keep it there: the world pays 1 then.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.envs.catch import ball_columns
from reverie.play.model import LoadedModel, load_model

STARTS = 512


def starts(loaded: LoadedModel) -> tuple[dict[str, Tensor], np.ndarray]:
    """Posterior states of first rows, name -> [N, ...], and the columns of their balls [N]."""
    model, cells, count = loaded.model, loaded.env.spec.flags["cells"], loaded.env.num_envs
    states, columns = [], []
    for seed in range(STARTS // count):
        rows = loaded.env.reset(seed)
        columns.append(ball_columns(rows["obs.image"], cells))
        given = {name: torch.as_tensor(value)[None] for name, value in rows.items()}
        nothing = torch.zeros(1, count, model.actions.size)
        seen = model.observe(model.initial_state(count), nothing, given, torch.rand(1, count, model.observe_noise))
        states.append({name: value[0] for name, value in seen.states.items()})
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}, np.concatenate(columns)


@torch.no_grad()
def dreamt(loaded: LoadedModel) -> dict[int, float]:
    """Column -> reward that a dream of a catch ends with, mean over starts."""
    model, cells = loaded.model, loaded.env.spec.flags["cells"]
    state, columns = starts(loaded)
    away = columns - cells // 2
    for step in range(cells - 1):
        move = np.where(np.abs(away) > step, np.sign(away), 0) + 1
        action = model.actions.encode(torch.as_tensor(move))
        state = model.imagine(state, action, torch.rand(len(columns), model.latent_noise))
    reward = model.reward.mean(model.rssm.feature(state)).numpy()
    return {int(column): round(float(reward[columns == column].mean()), 2) for column in np.unique(columns)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    names = {str(run): f"runs/{run.name}" for run in options.run}
    words = [names.get(word, word) for word in sys.argv[1:]]
    document: dict[str, Any] = {"command": shlex.join(["python", "benchmarks/catch_dreams.py", *words])}
    document["by column"] = "reward that a dream of a catch ends with"
    for run in options.run:
        torch.manual_seed(0)
        loaded = load_model(run, "cpu", 0)
        document[names[str(run)]] = {
            "agent": loaded.config.name,
            "settings": asdict(loaded.config.agent),
            "seed": loaded.config.run.seed,
            "env_steps": loaded.env_steps,
            "by column": dreamt(loaded),
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
