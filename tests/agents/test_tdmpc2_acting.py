"""How TD-MPC2 acts: imagined returns against a loop, warm starts in the policy's state, noise, ends in plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Decision, Seat, Tape
from reverie.agents.latent_policy import LATENT, Foresight
from reverie.agents.plan import Plan, PlanConfig, plan
from reverie.agents.plan_worth import imagined_returns
from reverie.agents.policy import Policy
from reverie.agents.tdmpc2 import TDMPC2, TDMPC2Config, TDMPC2Learner
from reverie.agents.tdmpc2_model import pair
from reverie.nets.outputs import TwoHot
from tests.agents.test_tdmpc2 import CONFIG, IMAGE, VECTOR, batch, disturb, make

SEARCH = PlanConfig(horizon=3, iterations=2, candidates=10, elites=4, policy_candidates=3)


def made(env: Any = VECTOR, **changes: Any) -> TDMPC2Learner:
    return disturb(make(replace(CONFIG, plan=SEARCH, **changes), env))


def rows_at(learner: TDMPC2Learner, t: int, first: bool = False) -> dict[str, Tensor]:
    rows = {name: value[t] for name, value in batch(learner, 4, ends=0.0).rows.items()}
    return {**rows, "is_first": torch.full((4,), first)}


def decide(policy: Policy, state: Any, rows: dict[str, Tensor], u: Tensor, play: Any) -> Decision:
    with torch.no_grad():
        return policy.step(state, rows, Tape(u), Seat.alone(4, play))


def numbers(policy: Policy, seed: int = 0) -> Tensor:
    return torch.rand(4, policy.noise, generator=torch.Generator().manual_seed(seed))


def test_a_plan_may_do_without_the_policys_candidates() -> None:
    learner = disturb(make(replace(CONFIG, plan=replace(SEARCH, policy_candidates=0)), VECTOR))
    policy = learner.policy
    decision = decide(policy, policy.initial_state(4), rows_at(learner, 0, first=True), numbers(policy), "greedy")
    assert decision.action.shape == (4, 2)
    assert bool(decision.action.isfinite().all())


@pytest.mark.parametrize("episodic", [False, True])
def test_the_worth_of_a_sequence_against_a_loop(episodic: bool) -> None:
    """r_1 + g r_2 + g^2 r_3 + g^3 mean of two critics; after an end that the model foresees nothing is paid."""
    learner = made(episodic=episodic)
    model, g = learner.policy.model, torch.Generator().manual_seed(0)
    foresight = Foresight(model, 0.9)
    z, candidates = torch.rand(2, 8, generator=g), 2 * torch.rand(2, 20, 3, 2, generator=g) - 1
    own, shared = torch.rand(2, 20, 2, generator=g), torch.rand(2, 3, generator=g)
    ended = 0
    with torch.no_grad():
        if model.end is not None:  # about as often as not
            model.end[-1].bias -= model.end(model.next(z, candidates[:, 0, 0])).mean()
        found = imagined_returns(foresight, {LATENT: z}, candidates, None, own, shared)
        for b in range(2):
            two = sorted(range(3), key=lambda k: -float(shared[b, k]))[:2]
            for n in range(20):
                now, total, weight, over = z[b], 0.0, 1.0, False
                for t in range(3):
                    x = torch.cat([now, candidates[b, n, t]])
                    total += 0.0 if over else weight * float(model.numbers.mean(model.reward(x)))
                    now, weight = model.next(now, candidates[b, n, t]), 0.9 * weight
                    over = over or (model.end is not None and float(model.end(now).sigmoid()) > 0.5)
                x = torch.cat([now, model.act(now, own[b, n])[0]])
                values = model.numbers.mean(model.critics(x))
                total += 0.0 if over else weight * float(values[two].mean())
                ended += over
                assert found[b, n].item() == pytest.approx(total, abs=1e-5)
    assert (0 < ended < 40) == episodic


def test_pairs_are_two_different_critics_each_as_often() -> None:
    pairs = pair(torch.rand(3000, 5, generator=torch.Generator().manual_seed(0)))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    counts = np.bincount(pairs.flatten().numpy(), minlength=5)
    assert counts.min() > 1100
    assert counts.max() < 1300
    assert pair(torch.tensor([0.3, 0.9, 0.8])).tolist() == [1, 2]


def test_it_acts_with_a_plan_that_begins_at_the_last_mean() -> None:
    learner = made()
    policy = learner.policy
    u, state = numbers(policy), policy.initial_state(4)
    assert set(state) == {"plan"}
    assert not state["plan"].any()
    first = decide(policy, state, rows_at(learner, 0, first=True), u, "greedy")
    rows = rows_at(learner, 1)
    second = decide(policy, first.state, rows, numbers(policy, 1), "greedy")
    with torch.no_grad():
        z = {LATENT: policy.encoder({"vector": rows["obs.vector"]}, u[:, :0])}
        mean = first.state["plan"]
        before = Plan(mean, mean, mean[:, 0, 0])
        arguments = (policy.foresight, z, policy.actions, SEARCH, numbers(policy, 1)[:, :-2])
        action, planned = plan(*arguments, before, policy=policy._propose)
        fresh, _ = plan(*arguments, policy=policy._propose)
    assert torch.equal(second.action, action)
    assert torch.equal(second.state["plan"], planned.mean)
    assert not torch.equal(fresh, action)
    again = decide(
        policy, first.state, {**rows, "is_first": torch.ones(4, dtype=torch.bool)}, numbers(policy, 1), "greedy"
    )
    assert torch.equal(again.action, fresh)


def test_without_planning_it_acts_as_the_prior_does() -> None:
    learner = made(mpc=False)
    policy, rows, u = learner.policy, rows_at(learner, 1), torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    assert policy.noise == 2
    greedy, explore = (decide(policy, policy.initial_state(4), rows, u, play) for play in ("greedy", "explore"))
    with torch.no_grad():
        mean, x = policy.model.prior(policy.encoder({"vector": rows["obs.vector"]}, u[:, :0])).chunk(2, -1)
        low, high = learner.config.log_std_min, learner.config.log_std_max
        std = torch.exp(low + 0.5 * (high - low) * (torch.tanh(x) + 1))
    assert torch.equal(greedy.action, torch.tanh(mean))
    torch.testing.assert_close(explore.action, torch.tanh(mean + std * torch.special.ndtri(u)))
    assert not explore.state["plan"].any()


def test_noise_in_training_is_of_the_last_std() -> None:
    learner = made()
    policy = learner.policy
    u, rows, state = numbers(policy), rows_at(learner, 0), policy.initial_state(4)
    greedy, explore, random = (decide(policy, state, rows, u, play) for play in ("greedy", "explore", "random"))
    with torch.no_grad():
        z = {LATENT: policy.encoder({"vector": rows["obs.vector"]}, u[:, :0])}
        last = state["plan"]
        arguments = (policy.foresight, z, policy.actions, SEARCH, u[:, :-2], Plan(last, last, last[:, 0, 0]))
        _, planned = plan(*arguments, policy=policy._propose)
    noisy = (greedy.action + planned.std[:, 0] * torch.special.ndtri(u[:, -2:])).clamp(-1, 1)
    torch.testing.assert_close(explore.action, noisy)
    assert torch.equal(explore.state["plan"], greedy.state["plan"])
    torch.testing.assert_close(random.action, 2 * u[:, -2:] - 1)
    assert not random.state["plan"].any()


def test_streams_are_planned_apart() -> None:
    """Four streams at once decide what each decides alone, pairs of critics included."""
    learner = made()
    policy, rows = learner.policy, rows_at(learner, 0)
    u, state = numbers(policy), {"plan": torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(5)) - 0.5}
    together = decide(policy, state, rows, u, "explore")
    for b in range(4):
        one = {name: value[b : b + 1] for name, value in rows.items()}
        with torch.no_grad():
            alone = policy.step({"plan": state["plan"][b : b + 1]}, one, Tape(u[b : b + 1]), Seat.alone(1, "explore"))
        torch.testing.assert_close(alone.action[0], together.action[b])
        torch.testing.assert_close(alone.state["plan"][0], together.state["plan"][b])


def test_unrolling_images_is_stepping() -> None:
    """Latents, with the shifts of steps, and frames; a plan is a decision's and begins anew."""
    learner = made(IMAGE)
    policy, rows = learner.policy, batch(learner, 4, ends=0.4).rows
    time = len(rows["is_first"])
    assert policy.unroll_noise == 2
    u = torch.rand(time, 4, policy.noise, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        latents, last = policy.unroll(policy.initial_state(4), rows, Tape(u[..., :2]))
        state, seen = policy.initial_state(4), []
        handle = policy.encoder.register_forward_hook(lambda module, given, z: seen.append(z))
        for t in range(time):
            state = decide(policy, state, {name: value[t] for name, value in rows.items()}, u[t], "explore").state
        handle.remove()
    torch.testing.assert_close(torch.stack(seen), latents)
    assert torch.equal(state["frames.image"], last["frames.image"])
    assert not last["plan"].any()


def test_wide_actions_get_more_iterations() -> None:
    for size, iterations in ((19, 6), (20, 8)):
        env = replace(VECTOR, action=spaces.Box(-1, 1, (size,), np.float32))
        assert TDMPC2(CONFIG, env).policy().search.iterations == iterations
    assert TDMPC2Config().plan == PlanConfig()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_plan_finds_what_the_model_pays_for(sign: float) -> None:
    """The reward follows the first action, up or down: greedy play goes there."""

    class Pays(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -50.0 * (TwoHot.uniform(7, 2.0).bins - sign * x[..., -2:-1]).square()

    search = replace(SEARCH, iterations=5, candidates=100, elites=10, temperature=5.0)
    learner = make(replace(CONFIG, plan=search))
    policy = learner.policy
    policy.model.reward = Pays()  # type: ignore[assignment]
    action = decide(policy, policy.initial_state(4), rows_at(learner, 0), numbers(policy), "greedy").action
    assert (sign * action[:, 0] > 0.6).all()
