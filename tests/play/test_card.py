"""Model cards: what a run's files say of its networks, once as JSON and once for people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

import reverie
from reverie import overrides
from reverie.errors import UserError
from reverie.play.card import as_markdown, described, model_card
from reverie.play.evaluate import evaluate
from reverie.presets import make_config
from reverie.report.record import read_metrics
from reverie.run.train import resume, train
from tests.play.test_evaluate import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    train(overrides.apply(make_config("dqn", "cpu", "CartPole-v1"), SMALL | {"run.seed": 7}), folder)
    evaluate(folder, episodes=4, seed=3)
    evaluate(folder, episodes=2, play="random")
    evaluate(folder, episodes=2, checkpoint="best")
    return folder


def test_a_card_says_what_the_run_says(run: Path) -> None:
    card = model_card(run)
    logged = next(r for r in reversed(read_metrics(run)) if "eval/score" in r)
    assert (card["name"], card["checkpoint"]) == ("dqn on CartPole-v1", "latest")
    assert card["agent"]["paper"] == "Mnih et al. 2015, Nature 518"
    assert card["training"]["env_steps"] == card["training"]["frames"] == logged["env_steps"] == 240
    assert (card["training"]["seed"], card["training"]["learner_steps"]) == (7, logged["learner_steps"])
    assert card["environment"]["observation"]["vector"].startswith("vector, float32 [4] in [")
    assert card["environment"]["action"] == "index, int64 in 0..1"
    assert card["config"] == json.loads((run / "config.json").read_text())["config"]
    assert card["versions"]["written"] == {**card["versions"]["trained"]}
    assert card["versions"]["written"]["torch"] == torch.__version__
    assert card["versions"]["written"]["reverie"] == reverie.__version__


def test_scores_are_those_of_this_checkpoint(run: Path) -> None:
    """With where they are from, their episodes and their seeds; those of other networks are not among them."""
    found = {score["by"]: score for score in model_card(run)["scores"]}
    by_eval = json.loads((run / "evaluation.json").read_text())
    assert (found["evaluation.json"]["mean"], found["evaluation.json"]["seed"]) == (by_eval["score"], 3)
    assert (found["evaluation.json"]["episodes"], found["training"]["episodes"]) == (4, 3)
    assert found["training"]["seed"] == 7
    assert found["evaluation_240_random.json"]["play"] == "random"
    best = model_card(run, "best")
    first = best["training"]["env_steps"]
    assert {s["by"] for s in best["scores"]} >= {"training", f"evaluation_{first}_best.json"}
    scores = {r["env_steps"]: r["eval/score"] for r in read_metrics(run) if "eval/score" in r}
    assert next(s["mean"] for s in best["scores"] if s["by"] == "training") == scores[first] == max(scores.values())
    if first != 240:
        assert f"evaluation_{first}_best.json" not in found


def test_a_damaged_evaluation_is_left_out(run: Path) -> None:
    for name, text in (
        ("evaluation_x.json", "{"),
        ("evaluation_y.json", '{"env_steps": 240}'),
        ("evaluation_z.json", "[]"),
    ):
        (run / name).write_text(text)
    assert not {score["by"] for score in model_card(run)["scores"]} & {"evaluation_x.json", "evaluation_y.json"}
    for name in ("x", "y", "z"):
        (run / f"evaluation_{name}.json").unlink()


def test_a_page_for_people(run: Path) -> None:
    page = as_markdown(model_card(run))
    assert page.startswith("# dqn on CartPole-v1\n")
    for words in ("| seed of training | 7 |", "| evaluation.json | greedy | CartPole-v1 | 4 |", '"num_envs"'):
        assert words in page
    assert "| trained | 240 env_steps, 240 frames," in page
    assert "What changed on the way" not in page


def test_a_run_that_went_on_differently_says_so(run: Path, tmp_path: Path) -> None:
    config = overrides.apply(make_config("dqn", "cpu", "CartPole-v1"), SMALL | {"run.eval_episodes": 0})
    train(config, tmp_path / "run")
    assert "was not evaluated" in as_markdown(model_card(tmp_path / "run"))
    resume(tmp_path / "run", {"agent.gamma": 0.5, "run.env_steps": 260})
    card = model_card(tmp_path / "run")
    assert card["training"]["env_steps"] == 260
    assert len(card["training"]["changes"]) == 1
    assert "agent.gamma 0.99 -> 0.5" in as_markdown(card)


def test_spaces_in_words() -> None:
    assert described(spaces.Box(0, 255, (8, 9, 3), np.uint8)) == "image, uint8 [8, 9, 3] in [0, 255]"
    assert described(spaces.MultiDiscrete([2, 3])) == "indices, int64 [2], one of [2, 3] each"


def test_no_run_no_card(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        model_card(tmp_path)


def test_a_model_of_the_zoo_has_its_own_licence_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate("zoo/cartpole", episodes=2, seed=5)
    card = model_card("zoo/cartpole")
    assert card["licence"]["networks"] == "MIT, as the library's"
    assert {score["episodes"] for score in card["scores"]} >= {2, 100}


def test_cut_episodes_are_in_the_table(run: Path) -> None:
    card = model_card(run)
    for score in card["scores"]:
        score["cut"] = 77
    assert as_markdown(card).count(" | 77 |") == len(card["scores"])
