"""Updates as CUDA graphs: the same numbers as kernel by kernel. Most of this needs a GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.errors import UserError
from tests.agents import test_dreamerv2 as dreamer
from tests.agents.test_dreamerv3 import stored
from tests.agents.test_value_static import AGENTS
from tests.agents.v3 import versions
from tests.agents.value import IMAGE, VECTOR, batch, make

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="records CUDA graphs")
GPU = torch.device("cuda")


def outcome(learner: Any, update: Any, data: list[Any]) -> dict[str, torch.Tensor]:
    """What is left of some updates: their metrics, their feedback, parameters and moments; and a random number."""
    seen: dict[str, torch.Tensor] = {}
    for number, one in enumerate(data):
        result = update(one.to(GPU))
        seen |= {f"{number}.{name}": value for name, value in result.metrics.items()}
        if result.feedback is not None:
            told = {"keys": result.feedback.keys, "priorities": result.feedback.priorities}
            seen |= {f"{number}.{name}": value for name, value in told.items() if value is not None}
            seen |= {f"{number}.state.{name}": value for name, value in (result.feedback.states or {}).items()}
    saved = learner.save()
    for name, optimiser in saved["optimisers"].items():
        for parameter, moments in optimiser.items():
            seen |= {f"{name}.{parameter}.{moment}": value for moment, value in moments.items()}
    return {**seen, **saved["tensors"], "random": learner.noise.uniform(3)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@on_gpu
@pytest.mark.parametrize("env", [IMAGE, VECTOR])
@pytest.mark.parametrize(("agent", "settings", "spec"), AGENTS)
def test_a_recorded_update_is_the_update(agent: str, settings: dict[str, Any], spec: dict[str, Any], env: Any) -> None:
    outcomes = []
    for captured in (False, True):
        learner = make(agent, env, spec, device=GPU, **settings)
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [batch(learner, seed=seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


@on_gpu
@pytest.mark.parametrize("env", [dreamer.DISCRETE, dreamer.CONTINUOUS])
def test_a_recorded_update_of_a_world_model_is_the_update(env: Any) -> None:
    outcomes = []
    for captured in (False, True):
        learner = dreamer.learner(replace(dreamer.CONFIG, target_every=2), env, device=GPU)
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [dreamer.batch(env, seed=seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


@on_gpu
@pytest.mark.parametrize("env", [dreamer.DISCRETE, dreamer.CONTINUOUS])
@pytest.mark.parametrize("version", ["dreamerv3-2023", "dreamerv3"])
def test_a_recorded_update_of_dreamerv3_is_the_update(version: str, env: Any) -> None:
    """With warm-up, stored states and states that are written back in the current version."""
    outcomes = []
    for captured in (False, True):
        now = version == "dreamerv3"
        learner = versions()[version](env, device=GPU, **({"state": "stored"} if now else {}))
        given = [dreamer.batch(env, seed=seed) for seed in range(EAGER + 4)]
        data = [stored(one, learner) if now else one for one in given]
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, data))
    same(*outcomes)


@on_gpu
@pytest.mark.parametrize("kind", ["adam", "rmsprop", "laprop"])
def test_a_learning_rate_falls_in_recorded_updates_too(kind: str) -> None:
    outcomes = []
    for captured in (False, True):
        opt = replace(make("dqn", VECTOR).config.opt, kind=kind, lr=1e-2, lr_end=0.0, lr_over=EAGER + 3)
        learner = make("dqn", VECTOR, device=GPU, opt=opt)
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [batch(learner, seed=seed) for seed in range(EAGER + 4)]))
        before = [parameter.clone() for parameter in learner.policy.parameters()]
        update(batch(learner, seed=9).to(GPU))
        # The rate is 0 by now.
        assert all(torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))
    same(*outcomes)


@on_gpu
def test_results_stay_what_they_were() -> None:
    learner = make("r2d2", VECTOR, {"context": 2, "learn": 4}, device=GPU, units=5)
    update = CapturedUpdate(learner)
    results = [update(batch(learner, seed=seed).to(GPU)) for seed in range(EAGER + 1)]
    before = {name: value.clone() for name, value in results[-1].metrics.items()}
    priorities = results[-1].feedback.priorities.clone()
    update(batch(learner, seed=99).to(GPU))
    assert all(torch.equal(results[-1].metrics[name], value) for name, value in before.items())
    assert torch.equal(results[-1].feedback.priorities, priorities)


@on_gpu
def test_an_update_that_waits_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make("dqn", VECTOR, device=GPU)
    whole = learner.average
    monkeypatch.setattr(learner, "average", lambda *given: whole(*given) * float(given[0].sum().item() > -1.0))
    update = CapturedUpdate(learner)
    for seed in range(EAGER):
        update(batch(learner, seed=seed).to(GPU))
    with pytest.raises(UserError, match=r"DQNLearner cannot be captured.*run.capture = false"):
        update(batch(learner).to(GPU))


def test_without_a_gpu_there_is_nothing_to_record() -> None:
    with pytest.raises(UserError, match="the device is cpu; set it to false"):
        CapturedUpdate(make("dqn", VECTOR))


def test_a_batch_names_all_its_tensors() -> None:
    learner = make("r2d2", IMAGE, {"context": 4, "learn": 8, "period": 4, "state": "stored", "drift": True}, units=5)
    given = batch(learner)
    names = given.tensors()
    assert set(names) == {
        *(f"rows.{name}" for name in given.rows),
        *(f"start.{name}" for name in given.start or {}),
        *(f"probes.{name}" for name in given.probes or {}),
        "keys",
        "probabilities",
        "ages",
    }
    copied = given.map(torch.clone).tensors()
    assert all(torch.equal(copied[name], value) and copied[name] is not value for name, value in names.items())
    assert make("dqn").windows.state == "zero"
    assert not any(name.startswith(("start", "probes")) for name in batch(make("dqn")).tensors())
