"""The unroll of DreamerV2's memory as one operation: states, statistics and every gradient are those of the loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reverie.agents.model_learner import ModelLearner
from reverie.data.rows import State
from reverie.nets.layers import Act, Norm, frozen, glorot_
from reverie.nets.learned_start import LearnedStartRSSM
from reverie.nets.rssm import RSSM, RSSMConfig
from reverie.nets.state_space import StateSpace

T, B, ACTION, EMBED = 9, 3, 3, 7
CONFIG = RSSMConfig(deter=6, hidden=5, stoch=4, classes=3)


def build(kind: type[RSSM] = RSSM, config: RSSMConfig = CONFIG, dtype: torch.dtype = torch.float64) -> RSSM:
    """A memory with parameters none of which is zero or one."""
    torch.manual_seed(0)
    rssm = kind(EMBED, ACTION, config)
    glorot_(rssm)
    rssm.reset_parameters()
    with torch.no_grad():
        for parameter in rssm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return rssm.to(dtype)


def observed(rssm: RSSM, whole: bool, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """All that `observe` gives on random rows, and the gradients of a random sum of it by all that goes in."""
    g = torch.Generator().manual_seed(1)
    given = {
        "action": torch.randn(T, B, ACTION, generator=g),
        "embed": torch.randn(T, B, EMBED, generator=g),
        "deter": torch.randn(B, 6, generator=g),
        "stoch": torch.randn(B, 12, generator=g),
    }
    given = {name: value.to(dtype).requires_grad_() for name, value in given.items()}
    is_first, u = torch.rand(T, B, generator=g) < 0.25, torch.rand(T, B, 4, generator=g)
    rssm.zero_grad()
    state = {name: given[name] for name in ("deter", "stoch")}
    rows = (state, given["action"], is_first, given["embed"], u)
    states, (logits,), last = rssm.observe(*rows) if whole else StateSpace.observe(rssm, *rows)
    found = {**states, "logits": logits, **{f"last {name}": value for name, value in last.items()}}
    total = torch.zeros((), dtype=torch.float64)
    for value in found.values():
        total = total + (value.double() * torch.randn(value.shape, generator=g, dtype=torch.float64)).sum()
    total.backward()
    inputs = (*given.items(), *rssm.named_parameters())
    gradients = {f"d {name}": value.grad for name, value in inputs if value.grad is not None}
    return {name: value.detach() for name, value in found.items()} | gradients


@pytest.mark.parametrize("kind", [RSSM, LearnedStartRSSM])
@pytest.mark.parametrize("norm", [False, True, "layer"])
@pytest.mark.parametrize(("act", "unimix"), [("elu", 0.0), ("silu", 0.01), ("relu", 0.2), ("tanh", 0.0)])
def test_an_unroll_is_the_loop(kind: type[RSSM], norm: Norm, act: Act, unimix: float) -> None:
    rssm = build(kind, RSSMConfig(deter=6, hidden=5, stoch=4, classes=3, norm=norm, act=act, unimix=unimix))
    loop, whole = observed(rssm, False), observed(rssm, True)
    assert loop.keys() == whole.keys()
    assert {"d action", "d embed", "d deter", "d stoch", "d post_out.bias", "d cell.norm.weight"} <= whole.keys()
    for name, value in loop.items():
        assert value.abs().max() > 1e-3, f"{name} says nothing"
        torch.testing.assert_close(whole[name], value, rtol=1e-11, atol=1e-12)


def test_products_are_in_half_precision_under_autocast() -> None:
    rssm = build(dtype=torch.float32)
    exact = observed(rssm, True, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loop, whole = observed(rssm, False, torch.float32), observed(rssm, True, torch.float32)
    assert torch.equal(loop["stoch"], whole["stoch"]), "another sample: another seed is wanted"
    for name, value in loop.items():
        assert whole[name].dtype == value.dtype
        torch.testing.assert_close(whole[name], value, rtol=0.05, atol=0.05 * float(value.abs().max()))
    assert not torch.equal(whole["logits"], exact["logits"])


def test_frozen_weights_get_no_gradient_and_the_rest_does() -> None:
    rssm = build()
    with frozen(rssm):
        found = observed(rssm, True)
    assert {name for name in found if name.startswith("d ")} == {"d action", "d embed", "d deter", "d stoch"}
    free = observed(rssm, True)
    for name in ("d action", "d embed", "d deter"):
        assert torch.equal(found[name], free[name])


def test_without_gradients_the_numbers_are_the_same() -> None:
    rssm, g = build(), torch.Generator().manual_seed(0)
    action, embed = (torch.randn(T, B, n, generator=g, dtype=torch.float64) for n in (ACTION, EMBED))
    begin = {name: value.double() for name, value in rssm.initial_state(B).items()}
    given = (begin, action, torch.zeros(T, B, dtype=torch.bool), embed, torch.rand(T, B, 4, generator=g))
    states, _, _ = rssm.observe(*given)
    with torch.inference_mode():
        again, _, _ = rssm.observe(*given)
    assert states["deter"].requires_grad
    assert all(torch.equal(again[name], states[name]) for name in states)


@pytest.mark.parametrize("config", [RSSMConfig(6, 5, "gaussian", 4), RSSMConfig(6, 5, stoch=4, classes=3, norm="rms")])
def test_what_the_operation_does_not_have_is_the_loop(config: RSSMConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise AssertionError("not what it is for")

    monkeypatch.setattr("reverie.nets.rssm.unroll", refused)
    rssm, g = build(config=config), torch.Generator().manual_seed(0)
    action, embed = (torch.randn(T, B, n, generator=g, dtype=torch.float64) for n in (ACTION, EMBED))
    u, is_first = torch.rand(T, B, 4, generator=g), torch.zeros(T, B, dtype=torch.bool)
    begin = {name: value.double() for name, value in rssm.initial_state(B).items()}
    assert rssm.observe(begin, action, is_first, embed, u)[0]["deter"].requires_grad


def test_compiled_steps_are_used_in_place_of_the_operation() -> None:
    rssm = build()
    learner = type("Learner", (), {"model": type("Model", (), {"rssm": rssm})()})()
    ModelLearner.compile_parts(learner)
    assert {"observe_embedded", "imagine_step"} <= set(vars(rssm))
    assert rssm._form() is None
    assert build()._form() is not None


def test_a_step_of_somebody_elses_is_taken_row_by_row() -> None:
    class Still(RSSM):
        def advance(self, state: State, action: Tensor) -> Tensor:
            return state["deter"]

    assert not observed(build(Still), True)["deter"][-1].ne(observed(build(Still), False)["deter"][-1]).any()
    assert build(Still)._form() is None
