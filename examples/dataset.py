"""What was seen: every row of a run is on disk, and can be read as a dataset."""

from __future__ import annotations

import numpy as np

import reverie


def returns(run_dir: str) -> list[float]:
    """Scores of the complete episodes in a run's replay, oldest first in each stream."""
    data = reverie.open_dataset(f"{run_dir}/replay")
    print(f"{len(data)} rows in streams {data.streams}")
    return [float(episode["reward"].sum()) for episode in data.episodes()]


def transitions(run_dir: str) -> dict[str, np.ndarray]:
    """(s, a, r, s', end) as other libraries want them. Rows are complete: reward[t + 1] is what action[t] earned."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("obs", "action", "reward", "next_obs", "terminal")}
    for episode in reverie.open_dataset(f"{run_dir}/replay").episodes():
        obs = next(value for name, value in episode.items() if name.startswith("obs."))
        parts["obs"].append(obs[:-1])
        parts["action"].append(episode["action"][:-1])  # the last row has none
        parts["reward"].append(episode["reward"][1:])
        parts["next_obs"].append(obs[1:])
        parts["terminal"].append(episode["is_terminal"][1:])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def main(run_dir: str = "runs/seen", env_steps: int = 3000) -> dict[str, np.ndarray]:
    """Collect a little, and read it back."""
    from reverie.overrides import apply

    config = reverie.make_config("dqn", "cpu", "CartPole-v1")
    # Rows are on disk in files of so many rows per stream; the newest rows are still in the checkpoint.
    config = apply(
        config, {"run.env_steps": env_steps, "run.prefill": 200, "run.eval_episodes": 0, "replay.store.chunk": 256}
    )
    reverie.train(config, run_dir)
    scores, arrays = returns(run_dir), transitions(run_dir)
    print(f"{len(scores)} episodes, mean score {np.mean(scores):.1f}")
    print({name: (value.dtype.name, value.shape) for name, value in arrays.items()})
    return arrays


if __name__ == "__main__":
    main()
