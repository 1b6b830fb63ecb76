"""The prediction report of a tiny run: what the model may see, what is measured, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from reverie.data.rows import OBS, Rows
from reverie.errors import UserError
from reverie.play.dream import dream
from reverie.play.foresight import report
from reverie.play.model import LoadedModel, held_out, load_model
from reverie.play.open_loop import join, open_loop
from reverie.run.roles import Actor
from reverie.run.train import resume, train
from tests.run.tiny_runs import config

CONTEXT = 3


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "catch"
    train(config("toy/catch", run__env_steps=60, run__eval_episodes=0), path)
    return path


@pytest.fixture
def loaded(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """Dreams with all noise at 0.5, so that they do not depend on who is beside them."""
    model = load_model(run_dir, "cpu", 0)
    monkeypatch.setattr(model.noise, "uniform", lambda *shape: torch.full(shape, 0.5))
    return model


@pytest.fixture
def sequences(loaded: LoadedModel) -> list[Rows]:
    """One sequence of 8 rows (a whole episode) and one cut short."""
    whole, other = held_out(loaded, 2, CONTEXT, 20, seed=1, random=True)
    assert len(whole["reward"]) == 8
    return [whole, {name: value[:5] for name, value in other.items()}]


def test_who_explores_less_with_time_plays_as_at_its_end(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seats = []
    step = Actor.step
    monkeypatch.setattr(Actor, "step", lambda actor, seat: seats.append(seat) or step(actor, seat))
    held_out(loaded, 2, CONTEXT, 20, seed=1)
    held_out(loaded, 2, CONTEXT, 20, seed=1, random=True)
    assert {(seat.play, seat.env_steps) for seat in seats} == {("explore", 60), ("random", 60)}


def test_dreams_do_not_depend_on_the_batch(loaded: LoadedModel, sequences: list[Rows]) -> None:
    both = open_loop(loaded, sequences, CONTEXT)
    assert both.valid.sum(0).tolist() == [8, 5]
    for number, sequence in enumerate(sequences):
        alone = open_loop(loaded, [sequence], CONTEXT)
        length = len(sequence["reward"])
        assert both.predicted["image"][:length, number] == pytest.approx(alone.predicted["image"][:, 0], abs=1e-5)
        assert both.predicted_reward[:length, number] == pytest.approx(alone.predicted_reward[:, 0], abs=1e-5)
    parts = [open_loop(loaded, [sequence], CONTEXT).outcomes(20) for sequence in sequences]
    joined, whole = join(parts), both.outcomes(20)
    assert joined.valid.tolist() == whole.valid.tolist()
    assert joined.valid.sum(0).tolist() == [5, 2]
    for ours, theirs in zip(joined.observations["image"], whole.observations["image"], strict=True):
        assert ours[joined.valid] == pytest.approx(theirs[joined.valid], abs=1e-5)


def test_the_model_sees_no_observation_after_the_context_but_every_action(
    loaded: LoadedModel, sequences: list[Rows]
) -> None:
    sequence = sequences[0]
    plain = open_loop(loaded, [sequence], CONTEXT)
    blind = {name: value.copy() for name, value in sequence.items()}
    blind[OBS + "image"][CONTEXT:] = 77
    blind["reward"][:] = 9.0
    hidden = open_loop(loaded, [blind], CONTEXT)
    assert (hidden.predicted["image"] == plain.predicted["image"]).all()
    assert (hidden.predicted_reward == plain.predicted_reward).all()
    blind[OBS + "image"][CONTEXT - 1] = 77
    assert (open_loop(loaded, [blind], CONTEXT).predicted["image"] != plain.predicted["image"]).any()
    moved = {name: value.copy() for name, value in sequence.items()}
    moved["prev_action"][CONTEXT] = (moved["prev_action"][CONTEXT] + 1) % 3
    features = open_loop(loaded, [moved], CONTEXT).predicted["image"]
    assert (features[:CONTEXT] == plain.predicted["image"][:CONTEXT]).all()
    assert (features[CONTEXT] != plain.predicted["image"][CONTEXT]).any()


def test_what_is_measured_is_what_happened(loaded: LoadedModel, sequences: list[Rows]) -> None:
    measured = open_loop(loaded, sequences[:1], CONTEXT)
    found = measured.outcomes(6)
    assert found.valid[:, 0].tolist() == [True] * 5 + [False]
    assert found.reward[:5, 0].tolist() == [0, 0, 0, 0, sequences[0]["reward"][-1]]
    assert found.continues[:5, 0].tolist() == [1, 1, 1, 1, 0]
    images = sequences[0][OBS + "image"].astype(float) / 255
    repeated = [((images[CONTEXT - 1] - images[CONTEXT + h]) ** 2).mean() for h in range(5)]
    assert found.observations["image"][1][:5, 0] == pytest.approx(repeated, abs=1e-6)
    dreamed = np.moveaxis(measured.predicted["image"][CONTEXT, 0], 0, -1) + 0.5
    assert found.observations["image"][0][0, 0] == pytest.approx(((dreamed - images[CONTEXT]) ** 2).mean(), abs=1e-6)
    assert found.predicted_continuation is not None
    assert ((found.predicted_continuation >= 0) & (found.predicted_continuation <= 1)).all()


def test_continuation_is_the_discount_without_gamma(loaded: LoadedModel, sequences: list[Rows]) -> None:
    """The head learns gamma where an episode goes on: where it says 1/2, the chance of going on is 1/2 / gamma."""
    gamma, head = loaded.model.gamma, loaded.model.discount
    assert head is not None
    assert 0.5 < gamma < 0.99
    *_, bias = head.parameters()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        for logit, chance in ((0.0, 0.5 / gamma), (-1.0, 1 / (1 + np.e) / gamma), (20.0, 1.0)):
            bias.fill_(logit)
            predicted = open_loop(loaded, sequences, CONTEXT).predicted_continuation
            assert predicted is not None
            assert predicted == pytest.approx(np.full((8, 2), chance), abs=1e-6)


def test_a_report_is_a_picture_and_numbers(run_dir: Path, tmp_path: Path) -> None:
    found = report(run_dir, context=CONTEXT, sequences=9, random_play=True, gif=True, episodes=2, out=tmp_path)
    written = json.loads((tmp_path / "prediction.json").read_text())
    assert written == json.loads(json.dumps(found))
    assert (written["horizon"], written["sequences"], written["play"]) == (5, 9, "random")
    assert written["sequences_at_horizon"] == [9] * 5
    assert (written["hallucination"]["threshold"], written["hallucination"]["rewarded"]) == (0.5, 9)
    assert imageio.imread(tmp_path / "prediction.png").shape[0] > 500
    assert len(imageio.imread(tmp_path / "prediction.gif", index=None)) == 8
    again = report(run_dir, context=CONTEXT, sequences=9, random_play=True, threshold=2.0, out=tmp_path / "again")
    assert again["reward"] == found["reward"]
    assert again["hallucination"]["rewarded"] == 0
    played = report(run_dir, context=CONTEXT, sequences=9, out=tmp_path / "played")
    assert played["reward"] != found["reward"]


def test_dreams_have_the_report_as_a_section(run_dir: Path, tmp_path: Path) -> None:
    found = dream(run_dir, context=CONTEXT, horizon=4, episodes=2, sequences=5, samples=2, out=tmp_path)
    section = json.loads((tmp_path / "dream.json").read_text())["prediction"]
    assert section["sequences_at_horizon"] == [10] * 4  # two dreams of each
    assert section["observations"]["image"]["repeat_error"] == pytest.approx(found["repeat_error"], abs=1e-6)
    # The mean of two pictures errs less than they do.
    assert (np.array(section["observations"]["image"]["error"]) > np.array(found["dream_error"])).all()


def test_what_cannot_be_reported_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shorter than 10 rows; use a smaller --context"):
        report(run_dir, context=9, sequences=2, out=tmp_path)
    with pytest.raises(UserError, match="--threshold -1 must be positive"):
        report(run_dir, threshold=-1, out=tmp_path)
    with pytest.raises(UserError, match="not a run directory"):
        report(tmp_path, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_changed_in_the_middle_of_the_run_is_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(config("toy/catch", run__env_steps=60, run__eval_episodes=0), path)
    assert "changes" not in report(path, context=CONTEXT, horizon=4, sequences=4)
    resume(path, {"run.env_steps": 70, "agent.gamma": 0.5})
    told = report(path, context=CONTEXT, horizon=4, sequences=4)
    assert told["changes"] == ["at 60 env_steps: agent.gamma 0.97 -> 0.5, run.env_steps 60 -> 70"]
    assert json.loads((path / "report" / "prediction.json").read_text())["changes"] == told["changes"]
