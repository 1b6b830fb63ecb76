"""The flickering experiment: its known policies against play, and a miniature from end to end."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import flicker
from reverie.envs.toys import Catch


def play(p: float, memory: bool, episodes: int) -> float:
    """Mean return of the two known policies on 5 x 5 cells, played."""
    rng, env, total = np.random.default_rng(0), Catch(size=5, cells=5), 0.0
    for seed in range(episodes):
        env.reset(seed=seed)
        seen, over, reward = False, False, 0.0
        while not over:
            shown = rng.random() >= p
            seen = shown or (memory and seen)
            action = 1 + int(np.sign(env._column - env._paddle)) if seen else 1
            _, reward, over, _, _ = env.step(np.int64(action))
        total += reward
    return total / episodes


@pytest.mark.parametrize("p", [0.0, 0.5, 0.8])
def test_known_scores_are_those_of_play(p: float) -> None:
    # 2000 episodes: a standard deviation of at most 1 / sqrt(2000) = 0.022.
    assert play(p, memory=False, episodes=2000) == pytest.approx(flicker.watching(5, p), abs=0.08)
    assert play(p, memory=True, episodes=2000) == pytest.approx(flicker.remembering(5, p), abs=0.08)


def test_known_scores_by_hand() -> None:
    # 3 cells, 2 rows: one column away it must show in one of two rows; both policies are the same there.
    assert flicker.watching(3, 0.5) == flicker.remembering(3, 0.5) == pytest.approx(2 / 3 * (1 + 2 * 0.75) - 1)
    assert flicker.watching(11, 0.5) == pytest.approx(0.776278)
    assert flicker.remembering(11, 0.8) == pytest.approx(0.679555)


def test_miniature_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"dqn": [0.0, 0.5], "drqn": [1.0, 0.5]}

    def compared(p: float, asked: object) -> dict[str, object]:
        return {"runs": {name: [{"score": score - p} for score in each] for name, each in scores.items()}}

    monkeypatch.setattr(flicker, "run", compared)
    words = ["--p", "0", "0.5", "--variants", "dqn", "drqn", "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", ["it", *words, "--out", str(tmp_path / "catch")])
    flicker.main()
    document = json.loads((tmp_path / "catch.json").read_text())
    assert document["scores"] == {
        "dqn": {"0": [0.0, 0.5], "0.5": [-0.5, 0.0]},
        "drqn": {"0": [1.0, 0.5], "0.5": [0.5, 0.0]},
    }
    assert "| `drqn` | 0.75 (1.00, 0.50) | 0.25 (0.50, 0.00) |" in (tmp_path / "catch.md").read_text()
    assert "| best with memory | 1.00 | 0.99 |" in (tmp_path / "catch.md").read_text()
    assert (tmp_path / "catch.png").stat().st_size > 10_000
