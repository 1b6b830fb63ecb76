"""A2C and IMPALA: losses against slow loops, their identity on a policy's own rows, acting, saving."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.a2c import A2CConfig
from reverie.agents.agent import Noise, Tape
from reverie.agents.impala import GA3C_EPSILON, IMPALAConfig
from reverie.agents.learner import load_tensors
from reverie.agents.recurrent import start_state
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from tests.agents.actor_critics import (
    CONTINUOUS,
    IMAGE,
    RATE,
    SEVERAL,
    SMALL,
    VECTOR,
    batch,
    decide,
    loss_of,
    make,
    own,
    recipe,
    slow_loss,
    slow_outputs,
)

KINDS: list[tuple[str, Any, dict[str, Any]]] = [
    ("a2c", VECTOR, {}),
    ("a2c", IMAGE, {"lam": 0.9, "value": 0.3}),
    ("a2c", IMAGE, {"state": "stored", "core": "lstm", "feed": True, "average": "sum"}),
    ("a2c", VECTOR, {"state": "stored", "core": "gru"}),
    ("impala", VECTOR, {"rho_bar": 1.5, "c_bar": 0.8, "lam": 0.9}),
    ("impala", IMAGE, {"state": "stored", "core": "lstm", "reward_scale": 0.3}),
    ("impala", VECTOR, {"core": "lstm", "average": "mean"}),
    ("impala", IMAGE, {"feed": False}),
]
EACH = pytest.mark.parametrize(("agent", "env", "changes"), KINDS)


@EACH
def test_the_loss_is_that_of_a_slow_loop(agent: str, env: Any, changes: dict[str, Any]) -> None:
    """Rows with ends of both kinds, start states of both kinds, stacked frames, memory."""
    learner = make(agent, env, **changes)
    for seed in range(3):
        data = own(learner, batch(learner, seed=seed), off=1.0)
        assert loss_of(learner, data).item() == pytest.approx(slow_loss(learner, data, agent == "impala"), rel=1e-3)


def gradients(learner: Any, data: Batch) -> list[Tensor]:
    learner.zero_grad()
    loss_of(learner, data).backward()
    grads = [parameter.grad for parameter in learner.policy.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
    return grads  # type: ignore[return-value]


def twins(env: Any, **changes: Any) -> tuple[Any, Any]:
    """A2C and IMPALA of one configuration and the same parameters."""
    parent, child = (make(agent, env, average="mean", feed=True, value=0.7, **changes) for agent in ("a2c", "impala"))
    child.policy.load_state_dict(parent.policy.state_dict())
    return parent, child


@pytest.mark.parametrize("env", [VECTOR, IMAGE, SEVERAL, CONTINUOUS])
def test_on_its_own_rows_impala_is_a2c(env: Any) -> None:
    """All ratios are 1: V-trace is the n-step return. And on somebody else's rows it is not."""
    parent, child = twins(env, state="stored", core="lstm")
    data = own(parent, batch(parent))
    metrics: dict[str, Tensor] = {}
    torch.testing.assert_close(loss_of(child, data, metrics), loss_of(parent, data))
    assert metrics["rho"].item() == pytest.approx(1.0, abs=1e-5)
    assert metrics["log_ratio"].item() == pytest.approx(0.0, abs=1e-5)
    for one, other in zip(gradients(parent, data), gradients(child, data), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    other_rows = own(parent, batch(parent), off=0.5)
    assert abs(loss_of(child, other_rows).item() - loss_of(parent, other_rows).item()) > 1e-3


def test_a2c_looks_as_far_ahead_as_the_window_goes() -> None:
    """By hand: three rows and a bootstrap, rewards 1, 2, 4, gamma 0.5; the last row looks one step ahead."""
    learner = make("a2c", VECTOR, learn=3, gamma=0.5, entropy=0.0, value=1.0)
    data = batch(learner, width=1, ends=0.0)
    data.rows["reward"][:, 0] = torch.tensor([9.0, 1.0, 2.0, 4.0])
    with torch.no_grad():
        learner.policy.critic.out.weight.zero_()
        learner.policy.critic.out.bias.fill_(8.0)
    params, _ = slow_outputs(learner, data)
    taken = params.log_softmax(-1)[:3, 0].gather(-1, data.rows["action"][:3]).squeeze(-1)
    returns = torch.tensor([1 + 1 + 1 + 1.0, 2 + 2 + 2.0, 4 + 4.0])
    expected = (-taken * (returns - 8) + 0.5 * (returns - 8) ** 2).mean()
    torch.testing.assert_close(loss_of(learner, data), expected)
    assert learner.windows == SequenceSpec(0, 3, 1, 3)


def test_vtrace_by_hand() -> None:
    """Two rows, ratios 2 and 1/2, cut at rho_bar 1.5 and c_bar 1: values 1, 2, 3, gamma 0.5, rewards 5 and 7."""
    learner = make("impala", VECTOR, learn=2, gamma=0.5, rho_bar=1.5, c_bar=1.0)
    flags = torch.zeros(3, 1, dtype=torch.bool)
    rows = {"reward": torch.tensor([[9.0], [5.0], [7.0]]), "is_last": flags, "is_terminal": flags}
    behaviour = torch.tensor([[0.5], [0.5]]).log()
    log_prob = torch.tensor([[1.0], [0.25]]).log()
    metrics: dict[str, Tensor] = {}
    value = torch.tensor([[1.0], [2.0], [3.0]])
    target, advantage = learner.estimate(rows, value, behaviour, log_prob, metrics)
    delta0, delta1 = 1.5 * (5 + 0.5 * 2 - 1), 0.5 * (7 + 0.5 * 3 - 2)
    second = 2 + delta1
    assert target[:, 0].tolist() == pytest.approx([1 + delta0 + 0.5 * 1.0 * delta1, second])
    assert advantage[:, 0].tolist() == pytest.approx([1.5 * (5 + 0.5 * second - 1), 0.5 * (7 + 0.5 * 3 - 2)])
    assert metrics["rho"].item() == pytest.approx((1.5 + 0.5) / 2)
    assert metrics["rho_clipped"].item() == pytest.approx(0.5)


def test_what_stands_beside_vtrace() -> None:
    """Without ratios it is A2C; one-step weighs A2C's advantages; epsilon is A2C but for probabilities near 0."""
    parent, _ = twins(VECTOR)
    data = own(parent, batch(parent), off=0.7)
    variants = {}
    for correction in ("none", "one-step", "epsilon", "vtrace"):
        child = make("impala", VECTOR, average="mean", feed=True, value=0.7, correction=correction)
        child.policy.load_state_dict(parent.policy.state_dict())
        variants[correction] = child
    torch.testing.assert_close(loss_of(variants["none"], data), loss_of(parent, data))
    torch.testing.assert_close(loss_of(variants["epsilon"], data), loss_of(parent, data), rtol=1e-4, atol=1e-4)
    rows, value = data.rows, torch.randn(7, 5)
    behaviour, log_prob = rows["extra.log_prob"][:-1], rows["extra.log_prob"][:-1] + 0.3 * torch.randn(6, 5)
    target, advantage = parent.estimate(rows, value, behaviour, log_prob, {})
    one_target, one_advantage = variants["one-step"].estimate(rows, value, behaviour, log_prob, {})
    torch.testing.assert_close(one_target, target)
    torch.testing.assert_close(one_advantage, advantage * (log_prob - behaviour).exp().clamp(max=1.0))
    assert not torch.allclose(variants["vtrace"].estimate(rows, value, behaviour, log_prob, {})[0], target)
    tiny, weight = torch.tensor([[math.log(1e-9)]]), torch.tensor([[2.0]])
    term = variants["epsilon"].policy_term(tiny, weight)
    assert term.item() == pytest.approx(-2.0 * math.log(1e-9 + GA3C_EPSILON), rel=1e-4)


def test_sums_are_means_times_the_rows_with_an_action() -> None:
    mean, total = (make("impala", VECTOR, average=average) for average in ("mean", "sum"))
    data = batch(mean)
    rows = (~data.rows["is_last"][:-1]).sum()
    assert rows < 30
    torch.testing.assert_close(loss_of(total, data), loss_of(mean, data) * rows)


@EACH
def test_what_must_not_be_read_is_not_read(agent: str, env: Any, changes: dict[str, Any]) -> None:
    """Actions, extras and further rewards of closing rows, previous actions of first rows, the last row's action."""
    learner = make(agent, env, **changes)
    data = own(learner, batch(learner), off=0.4)
    rows = {name: value.clone() for name, value in data.rows.items()}
    first, last = rows["is_first"], rows["is_last"]
    if data.start is None:
        first = first.clone()
        first[0] = True
    rows["action"][last] = 77
    rows["action"][-1] = 77
    rows["prev_action"][first] = 77
    rows["extra.log_prob"][last] = math.nan
    rows["extra.log_prob"][-1] = math.nan
    rows["reward"][first] = math.nan
    poisoned = replace(data, rows=rows)
    assert torch.equal(loss_of(learner, poisoned), loss_of(learner, data))
    for one, other in zip(gradients(learner, data), gradients(learner, poisoned), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("env", [CONTINUOUS, SEVERAL])
def test_other_actions_are_not_read_either(env: Any) -> None:
    learner = make("impala", env)
    data = own(learner, batch(learner), off=0.4)
    rows = {name: value.clone() for name, value in data.rows.items()}
    rows["action"][rows["is_last"]] = math.nan if env is CONTINUOUS else 9
    poisoned = replace(data, rows=rows)
    assert torch.equal(loss_of(learner, poisoned), loss_of(learner, data))
    assert all(torch.equal(a, b) for a, b in zip(gradients(learner, data), gradients(learner, poisoned), strict=True))


# Acting


@pytest.mark.parametrize("env", [VECTOR, IMAGE, SEVERAL, CONTINUOUS])
@pytest.mark.parametrize("core", ["none", "lstm", "gru"])
def test_step_is_unroll_and_tells_the_log_probability_that_the_learner_finds(env: Any, core: Any) -> None:
    """With the actor's own parameters all ratios are 1: rows, states, resets, stacks and feed agree."""
    learner = make("impala", env, core=core, state="stored" if env is IMAGE or core != "none" else "zero")
    policy, data = learner.policy, batch(learner, width=9, ends=0.3)
    state = policy.initial_state(9) if data.start is None else data.start
    rows = {name: value.clone() for name, value in data.rows.items()}
    rows["is_first"][0] |= data.start is None
    for t in range(learner.windows.length):
        row = {name: value[t] for name, value in rows.items()}
        if t:
            before = rows["action"][t - 1]
            first = row["is_first"].view(-1, *[1] * (before.dim() - 1))
            row["prev_action"] = rows["prev_action"][t] = torch.where(first, 0, before)
        decision = decide(policy, row, torch.rand(9, policy.noise), "explore", state)
        state = decision.state
        rows["action"][t] = decision.action
        rows["extra.log_prob"][t] = decision.extras["log_prob"]
    metrics: dict[str, Tensor] = {}
    loss_of(learner, replace(data, rows=rows), metrics)
    assert metrics["log_ratio"].item() < 1e-5
    assert rows["extra.log_prob"].std() > 1e-3


@pytest.mark.parametrize("env", [VECTOR, SEVERAL, CONTINUOUS])
def test_extras_belong_to_the_action_that_is_taken(env: Any) -> None:
    """Random play tells the log-probability of uniform actions, whatever the network says of them."""
    learner = make("impala", env, evaluation="mode")
    policy, rows = learner.policy, {name: value[0] for name, value in batch(learner, width=400).rows.items()}
    u = torch.rand(400, policy.noise, generator=torch.Generator().manual_seed(0))
    uniform = -math.log(3) if env is VECTOR else -math.log(6) if env is SEVERAL else -2 * math.log(2)
    random, explore, greedy = (decide(policy, rows, u, play) for play in ("random", "explore", "greedy"))
    assert random.extras["log_prob"].tolist() == pytest.approx([uniform] * 400)
    tape = Tape(torch.empty(0))
    (params, _), _ = policy.unroll(policy.initial_state(400), {n: v[None] for n, v in rows.items()}, tape)
    for decision in (explore, greedy):
        found = policy.actions.log_prob(params[0], policy.actions.encode(decision.action))
        torch.testing.assert_close(decision.extras["log_prob"], found, rtol=1e-4, atol=1e-5)
    assert not torch.equal(explore.action, greedy.action)
    torch.testing.assert_close(
        policy.actions.encode(greedy.action), policy.actions.mode(params[0]), rtol=1e-4, atol=1e-5
    )
    if env is VECTOR:
        counts = torch.bincount(random.action, minlength=3)
        assert counts.min() > 90
    drawn = make("impala", env, evaluation="sample").policy
    drawn.load_state_dict(policy.state_dict())
    assert torch.equal(decide(drawn, rows, u, "greedy").action, explore.action)


def test_the_state_runs_on_from_window_to_window_and_begins_anew_with_episodes() -> None:
    learner = make("impala", VECTOR, core="lstm", state="stored")
    data = batch(learner, ends=0.0)
    assert data.start is not None
    twice = replace(data, start={name: value + 1 for name, value in data.start.items()})
    assert not torch.equal(loss_of(learner, twice), loss_of(learner, data))
    data.rows["is_first"][0] = True
    assert torch.equal(loss_of(learner, twice), loss_of(learner, data))
    assert all(
        not start.requires_grad
        for start in start_state(learner.policy, data, learner.windows, Tape(torch.empty(0)))[0].values()
    )


MASKED = EnvSpec(
    "test", {**VECTOR.observation, "action_mask": spaces.Box(0, 1, (3,), np.float32)}, VECTOR.action, action_mask=True
)


def test_what_a_mask_forbids_has_no_probability() -> None:
    """In log-probabilities, entropies and gradients; of one allowed action nothing is left to learn."""
    policy = recipe("impala", MASKED).policy()
    learner = recipe("impala", MASKED, entropy=0.0).learner(policy, make("impala", VECTOR).windows)
    data = batch(make("impala", VECTOR), ends=0.2)
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(7, 5, 3, generator=g) < 0.5) | (torch.arange(3) == data.rows["action"].unsqueeze(-1))
    mask[2] = torch.arange(3) == data.rows["action"][2].unsqueeze(-1)  # nothing else may be done at row 2
    mask[data.rows["is_last"]] = False
    data.rows["is_first"][0] = True
    rows = {**data.rows, "obs.action_mask": mask.float()}
    metrics: dict[str, Tensor] = {}
    loss = loss_of(learner, replace(data, rows=rows), metrics)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters())
    tape = Tape(torch.empty(0))
    (params, _), _ = policy.unroll(policy.initial_state(5), rows, tape)
    probabilities, acted = params.softmax(-1), ~rows["is_last"]
    assert (probabilities[acted][~mask[acted]] == 0).all()
    entropy = -(probabilities * probabilities.clamp(min=1e-30).log()).sum(-1)[:-1][acted[:-1]].mean()
    assert metrics["entropy"].item() == pytest.approx(entropy.item(), rel=1e-4)
    assert torch.equal(probabilities[2][acted[2]].amax(-1), torch.ones(int(acted[2].sum())))
    row = {name: value[1] for name, value in rows.items()}
    random = decide(policy, row, torch.rand(5, 1), "random")
    allowed = torch.where(acted[1], mask[1].sum(-1), 3)
    torch.testing.assert_close(random.extras["log_prob"], -allowed.float().log())


# PopArt


def test_popart_learns_at_the_scale_of_its_targets() -> None:
    """With its first statistics (0 and 1) it is the plain critic; with others, everything counts in units of sigma."""
    plain, popart = (make("impala", VECTOR, popart=popart, popart_step=1e-12) for popart in (False, True))
    popart.policy.load_state_dict(plain.policy.state_dict(), strict=False)
    data = own(plain, batch(plain), off=0.3)
    torch.testing.assert_close(loss_of(popart, data), loss_of(plain, data), rtol=1e-5, atol=1e-5)
    popart.policy.critic.square.fill_(100.0**2)
    larger = make("impala", VECTOR, popart=True, popart_step=1e-12, reward_scale=100.0)
    larger.policy.load_state_dict(popart.policy.state_dict())
    torch.testing.assert_close(loss_of(larger, data), loss_of(plain, data), rtol=1e-4, atol=1e-4)


def test_popart_follows_its_targets_and_values_stay() -> None:
    learner = make("impala", VECTOR, popart=True, popart_step=0.01, reward_scale=50.0, opt=replace(RATE, lr=0.0))
    data = batch(learner)
    values = slow_outputs(learner, data)[1]
    result = learner.update(data)
    critic = learner.policy.critic
    assert float(critic.scale()) > 10
    assert result.metrics["popart_sigma"].item() == pytest.approx(float(critic.scale()))
    torch.testing.assert_close(slow_outputs(learner, data)[1], values, rtol=1e-4, atol=1e-4)
    assert result.metrics["value_loss"] < 5  # in units of sigma; the plain critic's is thousands
    assert make("impala", VECTOR, reward_scale=50.0).update(data).metrics["value_loss"] > 500


# Saving, recipes, refusals


@EACH
def test_it_goes_on_bit_for_bit(agent: str, env: Any, changes: dict[str, Any]) -> None:
    settings = {**changes, "opt": replace(RATE, kind="rmsprop-tf", lr_over=8)}
    settings |= {"popart": True, "popart_step": 0.1} if agent == "impala" else {}
    settings["torso"] = replace(SMALL["torso"], standardise=True)
    learner = make(agent, env, **settings)
    for seed in range(3):
        learner.update(batch(learner, seed=seed))
    saved = copy.deepcopy(learner.save())
    other = make(agent, env, seed=9, **settings)
    other.noise = Noise(77)
    other.restore(saved)
    for seed in range(3, 6):
        data = batch(learner, seed=seed)
        first, second = learner.update(data).metrics, other.update(data).metrics
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(learner.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("agent", ["a2c", "impala"])
def test_a_policy_without_a_learner_acts_as_the_learners(agent: str) -> None:
    learner = make(agent, IMAGE, core="lstm", opt=RATE)
    learner.update(batch(learner))
    there = pickle.loads(pickle.dumps(recipe(agent, IMAGE, core="lstm", opt=RATE)))
    torch.manual_seed(99)
    alone = there.policy()
    load_tensors(alone, learner.save()["tensors"], "policy.")
    rows = {name: value[0] for name, value in batch(learner, width=8).rows.items()}
    u = torch.rand(8, alone.noise)
    for play in ("explore", "random", "greedy"):
        one, other = (decide(policy, rows, u, play) for policy in (alone, learner.policy))
        assert torch.equal(one.action, other.action)
        assert torch.equal(one.extras["log_prob"], other.extras["log_prob"])
    with pytest.raises(ValueError, match="was asked for"):
        decide(alone, rows, torch.rand(8, alone.noise + 1))


def test_windows_lie_end_to_end() -> None:
    stacked = recipe("a2c", IMAGE, stack=4)
    assert stacked.windows(SequenceSpec(learn=5, period=5)) == SequenceSpec(3, 5, 1, 5)
    assert stacked.windows(SequenceSpec(learn=5, period=5, state="stored")) == SequenceSpec(0, 5, 1, 5, "stored")
    with pytest.raises(ValueError, match=r"set replay\.window\.period to 5"):
        stacked.windows(SequenceSpec(learn=5, period=1))
    with pytest.raises(ValueError, match=r"set replay\.window\.drift to false"):
        stacked.windows(SequenceSpec(learn=5, period=5, state="stored", drift=True))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gamma": 1.1}, "gamma must be in"),
        ({"lam": -0.1}, "lam must be in"),
        ({"entropy": -1.0}, "entropy must be at least 0"),
        ({"reward_scale": 0.0}, "reward_scale must be positive"),
        ({"stack": 0}, "stack and units must be at least 1"),
        ({"forget_bias": 1.0}, "forget_bias 1.0 is of an lstm"),
        ({"init": "he"}, "init must be one of"),
        ({"feed_reward": "cut"}, "reward transform must be one of"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], reason: str) -> None:
    for kind in (A2CConfig, IMPALAConfig):
        with pytest.raises(ValueError, match=reason):
            kind(**changes)
    with pytest.raises(ValueError, match="expected rho_bar >= c_bar > 0"):
        IMPALAConfig(rho_bar=0.5)
