"""The examples run, with fewer env_steps, and show what they say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)


def test_an_environment_of_ones_own_is_learned() -> None:
    assert import_module("own_env").main("run", 1500) > 6  # 1.5 at random, 12 at best


def test_an_agent_of_ones_own_bootstraps_from_both_networks() -> None:
    import torch

    from reverie.nets.q_heads import Reads
    from reverie.nets.values import Scalar
    from reverie.ops.n_step import NStep

    module = import_module("own_agent")
    assert module.main("run", 300) > 0
    head = module.AverageQ(4, 2, 8, Scalar())
    online, target = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 4.0]]])
    reads = Reads(target=target, online=online, here=None, action=torch.zeros(1, 1, dtype=torch.int64))
    one = torch.ones(1, 1)
    steps = NStep(earned=one, discount=0.5 * one, ahead=one.long())
    assert head.target(reads, steps).tolist() == [[1 + 0.5 * (3 + 4) / 2]]  # the online network chooses action 1
    with pytest.raises(ValueError, match="needs double = true"):
        module.AverageConfig(double=False)


def test_what_was_learned_plays_by_hand_and_in_a_batch() -> None:
    one, many = import_module("load_and_act").main("run", 300)
    assert many[0] == one  # the same seed, alone and among others
    assert len(many) == 8


def test_what_was_seen_comes_back_as_transitions() -> None:
    arrays = import_module("dataset").main("run", 700)
    obs, after, action = (arrays[name] for name in ("obs", "next_obs", "action"))
    assert len(obs) > 100
    assert set(arrays["reward"].tolist()) == {1.0}
    # CartPole's own equation: the position moves by 0.02 s times the velocity.
    assert after[:, 0] == pytest.approx(obs[:, 0] + 0.02 * obs[:, 1], abs=1e-5)
    assert ((after[:, 1] > obs[:, 1]) == (action == 1)).all()


def test_the_page_names_every_example() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        line.split("(../examples/")[1].split(")")[0] for line in page.splitlines() if "(../examples/" in line
    }
