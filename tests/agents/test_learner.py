"""The update around all losses, its one hook, and what is saved: nothing twice, nothing missing, nothing in silence."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reverie.agents.agent import Learner
from reverie.agents.dreamerv2 import DreamerV2
from reverie.agents.learner import load_tensors, tensors_of
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.optim import OptimConfig, Optimiser
from tests.agents.test_dreamerv2 import CONFIG, DISCRETE
from tests.agents.value import SMALL, VECTOR, batch, losses, make


class Three(Learner):
    """Losses of two groups at once and of a third after these have been updated: (value - 1)^2 / 2 each."""

    def __init__(self) -> None:
        parent = make("dqn", VECTOR)
        super().__init__(parent.policy, parent.windows)
        self.values = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor([float(k)])) for k, name in enumerate("bca", 3)}
        )
        config = OptimConfig(kind="adam", lr=0.5, clip=float("inf"), shrink=0.0)
        self.optimisers = {name: Optimiser([value], config) for name, value in self.values.items()}
        self.calls: list[tuple[str, dict[str, float | None], dict[str, float]]] = []

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        yield {name: (self.values[name] - 1).square().sum() / 2 for name in "bc"}
        yield {"a": (self.values["a"] - 1).square().sum() / 2}

    def reduce(self, group: str) -> bool:
        gradients = {name: None if value.grad is None else value.grad.item() for name, value in self.values.items()}
        self.calls.append((group, gradients, {name: value.item() for name, value in self.values.items()}))
        return group != "c"


def test_the_hook_runs_between_backward_and_step_of_each_group() -> None:
    """b, c and a begin at 3, 4 and 5, with gradients 2, 3 and 4; Adam's first step is 0.5. c is not stepped."""
    learner = Three()
    result = learner.update(batch(make("dqn", VECTOR)))
    near = partial(pytest.approx, rel=1e-5)
    assert [group for group, _, _ in learner.calls] == ["b", "c", "a"]
    gradients, values = [call[1] for call in learner.calls], [call[2] for call in learner.calls]
    assert gradients == [{"b": 2, "c": 3, "a": None}, {"b": None, "c": 3, "a": None}, {"b": None, "c": 3, "a": 4}]
    assert values == [{"b": 3, "c": 4, "a": 5}, {"b": near(2.5), "c": 4, "a": 5}, {"b": near(2.5), "c": 4, "a": 5}]
    assert [learner.values[name].item() for name in "bca"] == [near(2.5), 4, near(4.5)]
    # A gradient that is not stepped is left where it is, and no moment has seen it.
    assert [learner.values[name].grad is not None for name in "bca"] == [False, True, False]
    assert learner.optimisers["c"].rule.state == {}
    assert {name: value.item() for name, value in result.metrics.items()} == {
        **{"b_loss": 2, "c_loss": 4.5, "a_loss": 8},
        **{"b_grad_norm": 2, "a_grad_norm": 4},
    }
    assert learner.learner_steps == int(learner.policy.version) == 1


def test_what_the_hook_makes_of_gradients_is_what_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two learners, each with half a batch, that average their gradients step as one that has all of it."""
    whole, half = make("dqn", VECTOR), make("dqn", VECTOR)
    data = batch(whole, width=6)
    data = replace(data, probabilities=torch.full((6,), 0.1))
    parts = [
        replace(
            data,
            rows={name: value[:, part] for name, value in data.rows.items()},
            keys=data.keys[part],
            probabilities=data.probabilities[part],
            ages=data.ages[part],
        )
        for part in (slice(0, 3), slice(3, 6))
    ]
    other = torch.autograd.grad(losses(half, parts[1])[0], list(half.policy.parameters()))

    def average(group: str) -> bool:
        assert group == "q"
        for parameter, theirs in zip(half.policy.parameters(), other, strict=True):
            assert parameter.grad is not None
            parameter.grad.add_(theirs).div_(2)
        return True

    monkeypatch.setattr(half, "reduce", average)
    norms = [learner.update(one).metrics["q_grad_norm"].item() for learner, one in ((whole, data), (half, parts[0]))]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    pairs = zip(whole.policy.parameters(), half.policy.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_gradients_that_are_sent_away_leave_the_learner_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make("dqn", VECTOR)
    data = batch(learner)
    expected = torch.autograd.grad(losses(learner, data)[0], list(learner.policy.parameters()))
    before = [parameter.detach().clone() for parameter in learner.policy.parameters()]
    monkeypatch.setattr(learner, "reduce", lambda group: False)
    metrics = learner.update(data).metrics
    assert "q_loss" in metrics
    assert "q_grad_norm" not in metrics
    for parameter, old, gradient in zip(learner.policy.parameters(), before, expected, strict=True):
        assert torch.equal(parameter, old)
        assert torch.equal(parameter.grad, gradient)


# What is saved


def dreamer() -> Learner:
    agent = DreamerV2(CONFIG, DISCRETE)
    return agent.learner(agent.policy(), agent.windows(SequenceSpec(learn=5)))


LEARNERS: dict[str, Any] = {
    "dqn": lambda: make("dqn", torso=replace(SMALL["torso"], standardise=True), dueling=True),
    "rainbow": lambda: make("rainbow", VECTOR),
    "iqn": lambda: make("iqn", VECTOR),
    "drqn": lambda: make("drqn", VECTOR, units=5, core="gru"),
    "r2d2": lambda: make("r2d2", units=5),
    "dreamerv2": dreamer,
}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_tensor_is_saved_once_and_the_policys_under_its_name(name: str) -> None:
    learner = LEARNERS[name]()
    saved = learner.save()["tensors"]
    lasting = learner.state_dict(keep_vars=True).values()
    assert len(saved) == len({id(tensor) for tensor in saved.values()}) == len({id(tensor) for tensor in lasting})
    assert {id(tensor) for tensor in saved.values()} == {id(tensor) for tensor in lasting}
    assert {id(parameter) for parameter in learner.parameters()} <= {id(tensor) for tensor in saved.values()}
    memory = [tensor.data_ptr() for tensor in saved.values() if tensor.numel()]
    assert len(memory) == len(set(memory))
    acting = {id(tensor) for tensor in learner.policy.state_dict(keep_vars=True).values()}
    assert {id(t) for key, t in saved.items() if key.startswith("policy.")} == acting
    if name == "dqn":  # the target network has the statistics of the online one
        assert sum("statistics" in key for key in saved) == sum(
            "statistics" in key for key in learner.policy.state_dict()
        )


@pytest.mark.parametrize("name", LEARNERS)
def test_moments_are_saved_by_the_names_of_their_parameters(name: str) -> None:
    learner = LEARNERS[name]()
    saved = learner.save()
    trained = {id(p) for optimiser in learner.optimisers.values() for p in optimiser.parameters}
    named = [key for moments in saved["optimisers"].values() for key in moments]
    assert len(named) == len(set(named))
    assert {id(saved["tensors"][key]) for key in named} == trained


def updated() -> tuple[Any, dict[str, Any]]:
    learner = make("dqn", VECTOR)
    learner.update(batch(learner))
    return learner, copy.deepcopy(learner.save())


def test_a_group_of_moments_too_few_or_too_many_is_refused() -> None:
    learner = dreamer()
    saved = learner.save()
    without = {**saved, "optimisers": {g: m for g, m in saved["optimisers"].items() if g != "critic"}}
    with pytest.raises(KeyError, match=r"\['actor', 'model'\] were saved, here are \['actor', 'critic', 'model'\]"):
        learner.restore(without)
    learner, saved = updated()
    saved["optimisers"]["temperature"] = {}
    with pytest.raises(KeyError, match=r"\['q', 'temperature'\] were saved, here are \['q'\]"):
        learner.restore(saved)


def test_moments_of_a_parameter_too_few_or_too_many_are_refused() -> None:
    learner, saved = updated()
    moments = saved["optimisers"]["q"]
    gone = moments.pop("policy.network.head.body.0.bias")
    with pytest.raises(KeyError, match=r"policy\.network\.head\.body\.0\.bias'\] are missing"):
        learner.restore(saved)
    moments["policy.network.head.body.0.bias"] = moments["policy.network.head.body.7.bias"] = gone
    with pytest.raises(KeyError, match=r"policy\.network\.head\.body\.7\.bias'\] are of no parameter here"):
        learner.restore(saved)


def test_tensors_too_few_too_many_or_of_another_shape_are_refused() -> None:
    learner, saved = updated()
    tensors, name = saved["tensors"], "target.network.head.body.2.bias"
    for changed, message in (
        ({key: value for key, value in tensors.items() if key != name}, f"missing {name}"),
        ({**tensors, "target.more": torch.zeros(1)}, "unknown target.more"),
        ({**tensors, name: torch.zeros(7)}, rf"size mismatch for {name}: \(7,\) saved, \(3,\) here"),
    ):
        with pytest.raises(RuntimeError, match=message):
            learner.restore({**saved, "tensors": changed})


def test_moments_from_before_the_first_step_clear_those_that_are_there() -> None:
    learner = make("dqn", VECTOR)
    fresh = copy.deepcopy(learner.save())
    first = learner.update(batch(learner)).metrics["q_loss"]
    second = learner.update(batch(learner, seed=1)).metrics["q_loss"]
    learner.restore(fresh)
    assert learner.optimisers["q"].rule.state == {}
    assert torch.equal(learner.update(batch(learner)).metrics["q_loss"], first)
    assert torch.equal(learner.update(batch(learner, seed=1)).metrics["q_loss"], second)


def test_a_part_is_loaded_by_its_prefix_and_must_be_whole() -> None:
    one, two = make("dqn", VECTOR), make("dqn", VECTOR, seed=1)
    saved = one.save()["tensors"]
    load_tensors(two.policy, saved, "policy.")
    assert all(torch.equal(value, saved[name]) for name, value in tensors_of(two.policy, "policy.").items())
    some = {name: value for name, value in saved.items() if name != "policy.version"}
    with pytest.raises(RuntimeError, match=r"missing policy\.version"):
        load_tensors(two.policy, some, "policy.")
