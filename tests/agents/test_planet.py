"""PlaNet: losses against slow loops, overshooting against rollouts one by one, plans, noise, what travels to actors."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Seat, Tape
from reverie.agents.learner import tensors_of
from reverie.agents.overshooting import overshooting_kl
from reverie.agents.plan import PLANET, plan
from reverie.agents.plan_worth import imagined_returns
from reverie.agents.planet import PlaNet, PlaNetConfig, PlaNetLearner, Rewards
from reverie.agents.seen import Seen
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.rssm import RSSMConfig
from reverie.ops.continuous import normal_kl
from tests.agents.test_dreamerv2 import CODE, CONTINUOUS, DISCRETE, HEAD, batch
from tests.agents.test_static import WAITING, Watch

RSSM = RSSMConfig(6, 6, "gaussian", 3, act="relu", std="softplus", cell="reset_before")
SEARCH = replace(PLANET, horizon=3, iterations=2, candidates=20, elites=4)
CONFIG = PlaNetConfig(encoder=replace(CODE, bits=5), decoder=CODE, rssm=RSSM, reward=HEAD, plan=SEARCH, kl_free=0.1)
IMAGES = EnvSpec("test", {"image": DISCRETE.observation["image"]}, CONTINUOUS.action)
LOG = 0.5 * math.log(2 * math.pi)
PIXELS = 64


def learner(config: PlaNetConfig = CONFIG, env: EnvSpec = IMAGES, seed: int = 3, **spec: Any) -> PlaNetLearner:
    torch.manual_seed(0)
    recipe = PlaNet(config, env)
    made = recipe.learner(recipe.policy(), SequenceSpec(**{"learn": 5, **spec}), seed)
    assert isinstance(made, PlaNetLearner)
    return made


def test_world_model_loss_is_the_slow_sum() -> None:
    """Quantised images with their noise, rewards 10-fold, the KL of each row cut off below free nats."""
    agent, data = learner(), batch(IMAGES)
    model, rows = agent.model, data.rows
    noise = torch.Generator().manual_seed(3)
    loss, filtered, _ = agent.world_model_loss(data, {})
    states = filtered.states
    u = torch.rand(5, 3, 3 + PIXELS, generator=noise)
    for parameter in agent.parameters():
        parameter.requires_grad_(False)
    total = {"image": 0.0, "reward": 0.0, "kl": 0.0}
    clipped = 0
    for b in range(3):
        state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 3)}
        for t in range(5):
            action = rows["prev_action"][t, b][None].clone()
            if t == 0 or bool(rows["is_first"][t, b]):
                state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 3)}
                action = torch.zeros(1, 2)
            shade = (rows["obs.image"][t, b].permute(2, 0, 1) // 8).float()
            image = shade / 32 + u[t, b, 3:].view(1, 8, 8) / 32 - 0.5
            embed = model.encoder.encode({"image": image[None]})
            first = torch.tensor([False])
            state, (mean, std) = model.rssm.observe_step(state, action, first, embed, u[t, b, :3][None])
            assert torch.allclose(states["stoch"][t, b], state["stoch"][0], atol=1e-5)
            feature = torch.cat([state["stoch"], state["deter"]], -1)
            decoded = model.objective.decoder(feature)["image"][0]
            total["image"] += float((0.5 * (image - decoded) ** 2 + LOG).sum())
            total["reward"] += 0.5 * (float(rows["reward"][t, b]) - float(model.reward.mean(feature))) ** 2 + LOG
            kl = 0.0
            for m, s, m0, s0 in zip(mean[0], std[0], *(x[0] for x in model.rssm.prior(state["deter"])), strict=True):
                kl += float(torch.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5)
            clipped += kl < 0.1
            total["kl"] += max(kl, 0.1)
    assert 0 < clipped < 15
    expected = (total["image"] + 10 * total["reward"] + total["kl"]) / 15
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def rollouts(agent: PlaNetLearner, seen: Seen, is_first: Tensor, u: Tensor, free: float) -> float:
    """Every open-loop prediction on its own: begun, continued and compared in Python."""
    rssm, (time, width) = agent.model.rssm, is_first.shape
    by_distance: list[list[float]] = [[] for _ in u[1:]]
    for b in range(width):
        for begin in range(time):
            if begin == 0 and not is_first[0, b]:
                continue
            state = {"deter": torch.zeros(1, 6), "stoch": torch.zeros(1, 3)}
            if not is_first[begin, b]:
                state = {name: value[begin - 1, b][None] for name, value in seen.states.items()}
            for k in range(min(len(u), time - begin)):
                row = begin + k
                if k and is_first[row, b]:
                    break
                action = torch.zeros(1, 2) if is_first[row, b] else seen.action[row, b][None]
                deter = rssm.advance(state, action)
                mean, std = rssm.prior(deter)
                state = {"deter": deter, "stoch": mean + std * torch.special.ndtri(u[k, begin, b])}
                if k:
                    kl = normal_kl(seen.posterior[0][row, b], seen.posterior[1][row, b], mean[0], std[0]).sum()
                    by_distance[k - 1].append(max(float(kl), free))
    means = [sum(each) / max(len(each), 1) for each in by_distance[: time - 1]]
    return sum(means) / len(means)


def seen_rows(agent: PlaNetLearner, data: Batch) -> tuple[Seen, Tensor]:
    seen, rows = agent.see(data, {})
    return seen, rows["is_first"]


@pytest.mark.parametrize("distance", [1, 3, 9])
@pytest.mark.parametrize("state", ["zero", "stored"])
def test_overshooting_is_the_mean_of_rollouts_one_by_one(distance: int, state: str) -> None:
    """Across resets, from windows that begin with and inside an episode, and farther than a window is long."""
    agent, data = learner(env=CONTINUOUS, learn=6, state=state), batch(CONTINUOUS, 6, 4)
    if state == "stored":
        g = torch.Generator().manual_seed(4)
        start = {"deter": torch.randn(4, 6, generator=g), "stoch": torch.randn(4, 3, generator=g)}
        data = replace(data, start=start)
    with torch.no_grad():
        seen, is_first = seen_rows(agent, data)
        assert bool(is_first[0].all()) == (state == "zero")
        assert is_first[1:].any()
        u = torch.rand(distance + 1, 6, 4, 3, generator=torch.Generator().manual_seed(2))
        for free in (0.0, 0.4):
            found = overshooting_kl(agent.model.rssm, seen, is_first, u, free).item()
            assert found == pytest.approx(rollouts(agent, seen, is_first, u, free), rel=1e-5)


def test_overshooting_by_hand() -> None:
    """A memory of one unit that forgets everything and whose prior says N(z_{t-1} w, 1): two rows, one distance.

    The posterior of row 1 is N(0.3, 0.5); predicted from nothing, over both rows, it is N(m, 1) with m known.
    """
    agent = learner(env=CONTINUOUS, learn=2)
    rssm = agent.model.rssm
    with torch.no_grad():
        for parameter in rssm.parameters():
            parameter.zero_()
        rssm.prior_out.bias[:3] = torch.tensor([0.2, 0.0, 0.0])
        rssm.prior_out.bias[3:] = math.log(math.exp(0.9) - 1)  # std = softplus + 0.1 = 1
    zeros = {"deter": torch.zeros(2, 1, 6), "stoch": torch.zeros(2, 1, 3)}
    posterior = (torch.tensor([0.3, 0.0, 0.0]).expand(2, 1, 3), torch.tensor([0.5, 1.0, 1.0]).expand(2, 1, 3))
    seen = Seen(
        zeros, posterior, posterior, torch.zeros(2, 1, 9), torch.zeros(2, 1, 1), {}, torch.zeros(2, 1, 2), zeros
    )
    is_first = torch.tensor([[True], [False]])
    found = overshooting_kl(rssm, seen, is_first, torch.full((2, 2, 1, 3), 0.5), 0.0).item()
    assert found == pytest.approx(math.log(1 / 0.5) + (0.5**2 + (0.3 - 0.2) ** 2) / 2 - 0.5, abs=1e-6)


def test_overshooting_moves_the_prior_and_where_predictions_begin_but_no_target() -> None:
    agent = learner(env=CONTINUOUS, learn=6)
    seen, is_first = seen_rows(agent, batch(CONTINUOUS, 6, 4))
    leaves = [part.detach().requires_grad_() for part in seen.posterior]
    states = {name: value.detach().requires_grad_() for name, value in seen.states.items()}
    seen = replace(seen, posterior=tuple(leaves), states=states)
    overshooting_kl(agent.model.rssm, seen, is_first, torch.rand(3, 6, 4, 3), 0.0).backward()
    assert all(leaf.grad is None for leaf in leaves)
    assert bool(states["stoch"].grad.any())
    assert bool(agent.model.rssm.prior_out.weight.grad.any())
    assert agent.model.rssm.post_out.weight.grad is None


def test_overshooting_is_one_more_dynamics_loss_and_off_as_released() -> None:
    assert PlaNetConfig().overshooting == 0
    plain, over = (learner(replace(CONFIG, overshooting=n, overshooting_scale=0.5), CONTINUOUS) for n in (0, 3))
    one, other = plain.update(batch(CONTINUOUS)).metrics, over.update(batch(CONTINUOUS)).metrics
    assert "overshooting_loss" not in one
    assert other["kl_loss"].item() == one["kl_loss"].item()
    added = other["overshooting_loss"].item()
    assert added > 0.05
    assert other["balance/dynamics_loss"].item() == pytest.approx(one["kl_loss"].item() + added, rel=1e-6)
    assert other["model_loss"].item() == pytest.approx(one["model_loss"].item() + added, rel=1e-6)


def test_predictions_begin_before_no_window_that_opens_in_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that begins with an empty state reads its first row as an episode's, which it is not."""
    told: list[Tensor] = []

    def spy(rssm: Any, seen: Any, is_first: Tensor, *rest: Any) -> Tensor:
        told.append(is_first)
        return overshooting_kl(rssm, seen, is_first, *rest)

    monkeypatch.setattr("reverie.agents.planet.overshooting_kl", spy)
    given = batch(CONTINUOUS)
    given.rows["is_first"][:] = False
    learner(replace(CONFIG, overshooting=2), CONTINUOUS).update(given)
    assert not told[0].any()


# Acting


def decide(agent: PlaNetLearner, u: Tensor, play: str, env: EnvSpec = IMAGES) -> Any:
    rows = {name: value[0] for name, value in batch(env).rows.items()}
    return agent.policy.step(agent.policy.initial_state(3), rows, Tape(u), Seat.alone(3, play))


def test_it_acts_with_a_fresh_plan_for_predicted_rewards() -> None:
    agent = learner()
    assert agent.policy.planning == 2 * 20 * 3 * (2 + 3) + 1
    assert agent.policy.noise == 3 + PIXELS + agent.policy.planning + 2
    u = torch.rand(3, agent.policy.noise, generator=torch.Generator().manual_seed(0))
    decision = decide(agent, u, "greedy")
    model = Rewards(agent.model.rssm, agent.model.reward)
    expected, _ = plan(model, decision.state, agent.actions, SEARCH, u[:, 3 + PIXELS : -2])
    assert torch.equal(decision.action, expected)
    noisy = (expected + 0.3 * torch.special.ndtri(u[:, -2:])).clamp(-1, 1)
    assert torch.allclose(decide(agent, u, "explore").action, noisy, atol=1e-6)
    assert torch.allclose(decide(agent, u, "random").action, 2 * u[:, -2:] - 1)


def test_the_worth_of_a_plan_is_the_sum_of_predicted_rewards() -> None:
    """No discount, nothing after the last state."""
    agent = learner()
    rssm, reward = agent.model.rssm, agent.model.reward
    g = torch.Generator().manual_seed(0)
    state = {"deter": torch.randn(1, 6, generator=g), "stoch": torch.randn(1, 3, generator=g)}
    candidates, u = torch.rand(1, 4, 3, 2, generator=g) * 2 - 1, torch.rand(1, 4, 3, 3, generator=g)
    with torch.no_grad():
        found = imagined_returns(Rewards(rssm, reward), state, candidates, u)
        for n in range(4):
            now, total = state, 0.0
            for t in range(3):
                now = rssm.imagine_step(now, candidates[:, n, t], u[:, n, t])
                total += float(reward.mean(torch.cat([now["stoch"], now["deter"]], -1)))
            assert found[0, n].item() == pytest.approx(total, abs=1e-5)


def test_the_released_search() -> None:
    config = PlaNetConfig()
    assert config.plan == PLANET
    assert (PLANET.candidates, PLANET.elites, PLANET.iterations, PLANET.horizon) == (1000, 100, 10, 12)
    assert (PLANET.start_std, PLANET.momentum, PLANET.method, PLANET.floor) == (1.0, 0.0, "cem", "added")
    assert PLANET.min_std**2 == pytest.approx(1e-6)
    assert config.explore.amount == 0.3


def test_policy_step_matches_unroll() -> None:
    """With the noise of quantised images in both; the plan's numbers are a decision's alone."""
    agent = learner()
    rows = batch(IMAGES).rows
    assert agent.policy.unroll_noise == 3 + PIXELS
    u = torch.rand(5, 3, agent.policy.noise)
    states, last = agent.policy.unroll(agent.policy.initial_state(3), rows, Tape(u[..., : 3 + PIXELS]))
    state = agent.policy.initial_state(3)
    for t in range(5):
        seen = {k: v[t] for k, v in rows.items()}
        state = agent.policy.step(state, seen, Tape(u[t]), Seat.alone(3, "explore")).state
        for name in state:
            assert torch.allclose(state[name], states[name][t], atol=1e-6)
    assert torch.allclose(last["deter"], state["deter"], atol=1e-6)


def test_actors_get_what_a_plan_needs_and_no_decoder() -> None:
    """The reward head is the policy's: a learner's update is at once what plans are judged by."""
    agent = learner()
    names = tensors_of(agent.policy)
    assert {name.partition(".")[0] for name in names} == {"encoder", "rssm", "reward", "version"}
    assert agent.model.reward is agent.policy.reward
    assert not [name for name in tensors_of(agent) if name.startswith("model.reward")]
    before = agent.policy.reward.head.out.weight.clone()
    for i in range(2):  # the learning rate is 0 in the first
        agent.update(batch(IMAGES, seed=i))
    assert not torch.equal(before, agent.policy.reward.head.out.weight)


def test_the_learning_rate_rises_over_the_first_updates() -> None:
    """Adam 1e-3 times min(1, update / 200)."""
    optimiser = learner().optimisers["model"]
    assert [optimiser.rate(n) for n in (0, 50, 200, 999)] == pytest.approx([0.0, 2.5e-4, 1e-3, 1e-3])


def test_save_and_restore_go_on_bit_for_bit() -> None:
    config = replace(CONFIG, overshooting=2)
    a = learner(config)
    for i in range(3):
        a.update(batch(IMAGES, seed=i))
    saved = a.save()
    saved["tensors"] = {k: v.clone() for k, v in saved["tensors"].items()}
    saved["optimisers"] = {
        group: {name: {k: v.clone() for k, v in moments.items()} for name, moments in each.items()}
        for group, each in saved["optimisers"].items()
    }
    b = learner(config, seed=1)
    b.update(batch(IMAGES, seed=9))
    b.restore(saved)
    for i in range(3, 5):
        first, second = a.update(batch(IMAGES, seed=i)).metrics, b.update(batch(IMAGES, seed=i)).metrics
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_update_is_static_and_never_waits() -> None:
    agent = learner(replace(CONFIG, overshooting=2))
    agent.update(batch(IMAGES))
    traces = []
    for seed in range(1, 3):
        data = batch(IMAGES, seed=seed)
        with Watch() as watch:
            agent.update(data)
        traces.append(watch.trace)
    assert traces[0] == traces[1]
    assert [name for name, _ in traces[0] if name in WAITING] == []


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"plans continuous actions \(a Box\), got Discrete\(3\); dreamerv1"):
        PlaNet(CONFIG, DISCRETE)
    with pytest.raises(ValueError, match="plans continuous actions"):
        PlaNet(CONFIG, replace(DISCRETE, action=spaces.MultiDiscrete([2, 3])))
    with pytest.raises(ValueError, match="overshooting must be at least 0"):
        PlaNetConfig(overshooting=-1)
    with pytest.raises(ValueError, match="policy_candidates must be 0"):
        PlaNetConfig(plan=replace(PLANET, policy_candidates=3))
    with pytest.raises(ValueError, match="no head for ends"):
        PlaNetConfig(predict_discount=True)
