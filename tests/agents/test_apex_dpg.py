"""Ape-X DPG: its losses by hand, against slow loops, its policy, and that nothing waits for a device."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents import find
from reverie.agents.agent import Noise, Seat, Tape
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.exploration import ActionNoise
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.nets.torsos import TorsoConfig
from reverie.ops.continuous import normal_sample
from reverie.presets import make_config
from tests.agents.test_capture import on_gpu, outcome, same
from tests.agents.test_static import WAITING, Watch

SIDE, SIZE = 8, 2
ACTION = spaces.Box(-1, 1, (SIZE,), np.float32)
VECTOR = EnvSpec("test", {"vector": spaces.Box(-1, 1, (3,), np.float32)}, ACTION)
IMAGE = EnvSpec("test", {"image": spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)}, ACTION)
SMALL: dict[str, Any] = {
    "torso": TorsoConfig(channels=(2, 3, 3), layers=0),
    "actor_units": (5, 4),
    "critic_units": (6, 5),
    "target_every": 3,
    "n_step": 2,
}


def make(
    env: EnvSpec = VECTOR, spec: dict[str, Any] | None = None, seed: int = 0, device: Any = None, **changes: Any
) -> Any:
    kind = find("apex-dpg").load()
    agent = kind(kind.Config(**{**SMALL, **changes}), env)
    torch.manual_seed(seed)
    return agent.learner(agent.policy(), agent.windows(SequenceSpec(**(spec or {}))), 3, device)


def batch(learner: Any, width: int = 5, seed: int = 0, ends: float = 0.25) -> Batch:
    """Random windows with ends of both kinds, actions and uneven probabilities."""
    g = torch.Generator().manual_seed(seed)
    time = learner.windows.length
    rows: dict[str, Tensor] = {}
    if learner.policy.critic.torso.images:
        rows["obs.image"] = torch.randint(0, 256, (time, width, SIDE, SIDE, 1), generator=g, dtype=torch.uint8)
    else:
        rows["obs.vector"] = torch.randn(time, width, 3, generator=g)
    last = torch.rand(time, width, generator=g) < ends
    first = torch.cat([torch.rand(1, width, generator=g) < ends, last[:-1]])
    rows["action"] = torch.where(last.unsqueeze(-1), 0, 2 * torch.rand(time, width, SIZE, generator=g) - 1)
    rows["prev_action"] = torch.where(
        first.unsqueeze(-1), 0, torch.cat([torch.zeros(1, width, SIZE), rows["action"][:-1]])
    )
    rows["reward"] = torch.where(first, 0.0, torch.randn(time, width, generator=g))
    rows["is_first"], rows["is_last"] = first, last
    rows["is_terminal"] = last & (torch.rand(time, width, generator=g) < 0.5)
    for name in learner.policy.extras:
        rows[f"extra.{name}"] = torch.randn(time, width, generator=g)
    return Batch(rows, None, torch.arange(width), 0.1 + torch.rand(width, generator=g), torch.zeros(width))


def disturb(learner: Any) -> None:
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in (learner.target_actor, learner.target_critic):
            for parameter in module.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=g)


def losses(learner: Any, data: Batch) -> tuple[dict[str, Tensor], Tensor]:
    steps = learner.losses(data, {})
    given = next(steps)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    return given, stop.value.value.priorities


def linear(layer: Any, weights: list[float], bias: float) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.fill_(bias)


def test_losses_by_hand() -> None:
    """One observation s, one action: Q = 2 s - 3 a + 1, pi = tanh(s); Q' = s + a, pi' = tanh(2 s); n 2, gamma 0.5.

    ::

        window 1    s 1.0   a 0.5   then r 1, r 2, s 0.5      target 1 + 0.5 2 + 0.25 (0.5 + tanh 1)     Q 1.5
        window 2    s 0.25  a -1    then r 3, terminal        target 3                                   Q 4.5
    """
    one = EnvSpec("t", {"vector": spaces.Box(-9, 9, (1,), np.float32)}, spaces.Box(-1, 1, (1,), np.float32))
    learner = make(one, actor_units=(), critic_units=(), gamma=0.5, slope_clip=0.75)
    linear(learner.policy.critic.layers.out, [2.0, -3.0], 1.0)
    linear(learner.policy.actor.layers.out, [1.0], 0.0)
    linear(learner.target_critic.layers.out, [1.0, 1.0], 0.0)
    linear(learner.target_actor.layers.out, [2.0], 0.0)
    rows = {
        "obs.vector": torch.tensor([[1.0, 0.25], [7.0, 8.0], [0.5, 9.0]]).unsqueeze(-1),
        "action": torch.tensor([[0.5, -1.0], [0.0, 0.0], [0.0, 0.0]]).unsqueeze(-1),
        "reward": torch.tensor([[0.0, 0.0], [1.0, 3.0], [2.0, 5.0]]),
        "is_first": torch.zeros(3, 2, dtype=torch.bool),
        "is_last": torch.tensor([[False, False], [False, True], [False, False]]),
        "is_terminal": torch.tensor([[False, False], [False, True], [False, False]]),
        "extra.q": torch.zeros(3, 2),
        "extra.v": torch.zeros(3, 2),
    }
    data = Batch(rows, None, torch.arange(2), torch.tensor([0.2, 0.8]), torch.zeros(2))
    given, priorities = losses(learner, data)
    first = 1 + 0.5 * 2 + 0.25 * (0.5 + np.tanh(1.0)) - 1.5
    second = 3.0 - 4.5
    weight = (0.2 / 0.8) ** 0.4  # of the likelier window, beside 1 for the other
    assert float(given["critic"].detach()) == pytest.approx((first**2 / 2 + weight * second**2 / 2) / 2, rel=1e-5)
    np.testing.assert_allclose(priorities, [abs(first), abs(second)], rtol=1e-5)
    # dQ/da is -3 everywhere, clipped to -0.75: the loss is the mean of 0.75 pi.
    assert float(given["actor"].detach()) == pytest.approx(0.75 * (np.tanh(1.0) + np.tanh(0.25)) / 2)
    given["actor"].backward()
    slope = [0.75 * (1 - np.tanh(s) ** 2) * s / 2 for s in (1.0, 0.25)]
    assert float(learner.policy.actor.layers.out.weight.grad) == pytest.approx(sum(slope), rel=1e-5)
    assert all(parameter.grad is None for parameter in learner.policy.critic.parameters())


@pytest.mark.parametrize("env", [VECTOR, IMAGE], ids=["vector", "image"])
def test_losses_against_a_slow_loop(env: EnvSpec) -> None:
    learner = make(env, {"learn": 3}, stack=3 if env is IMAGE else 1, n_step=3, gamma=0.9, reward_scale=0.5)
    disturb(learner)
    data = batch(learner, 6)
    given, priorities = losses(learner, data)
    rows, context, learn = data.rows, learner.windows.context, 3
    state = learner.policy.initial_state(6)
    obs = []
    for t in range(learner.windows.length):
        row = {name: value[t] for name, value in rows.items()}
        if t == 0:
            row["is_first"] = torch.ones_like(row["is_first"])
        seen, state = learner.policy.stacks.step(state, row)
        obs.append(seen)
    weights = (data.probabilities / data.probabilities.min()) ** -0.4
    loss, ascent, count = 0.0, 0.0, 0
    errors = np.zeros((learn, 6))
    for b in range(6):
        for k in range(learn):
            t = context + k
            if rows["is_last"][t, b]:
                continue
            here = {name: value[b : b + 1] for name, value in obs[t].items()}
            earned, discount, i = 0.0, 1.0, t
            while i < t + 3 and not rows["is_last"][i, b]:
                i += 1
                earned += discount * 0.5 * float(rows["reward"][i, b])
                discount *= 0.9
            if rows["is_last"][i, b] and rows["is_terminal"][i, b]:
                discount = 0.0
            ahead = {name: value[b : b + 1] for name, value in obs[i].items()}
            with torch.no_grad():
                target = earned + discount * learner.target_critic(ahead, learner.target_actor(ahead))
                q = learner.policy.critic(here, rows["action"][t, b : b + 1])
            errors[k, b] = float(target - q)
            loss += float(weights[b]) * errors[k, b] ** 2 / 2 / 6
            leaf = learner.policy.actor(here).detach().requires_grad_()
            (slope,) = torch.autograd.grad(learner.policy.critic(here, leaf).sum(), leaf)
            ascent -= float((slope.clamp(-1, 1) * leaf).sum().detach())
            count += 1
    assert count < 3 * 6  # some rows have no action
    assert float(given["critic"].detach()) == pytest.approx(loss, rel=1e-4)
    assert float(given["actor"].detach()) == pytest.approx(ascent / count, rel=1e-4, abs=1e-6)
    valid = (~rows["is_last"][context : context + learn]).sum(0).clamp(min=1).numpy()
    np.testing.assert_allclose(priorities, np.abs(errors).sum(0) / valid, rtol=1e-4, atol=1e-6)


def test_an_actors_priority_is_the_learners_error_for_the_same_parameters() -> None:
    learner = make(spec={"learn": 2})
    data = batch(learner, 6, seed=3)
    extras: dict[str, list[Tensor]] = {"q": [], "v": []}
    for t in range(learner.windows.length):
        obs = {"vector": data.rows["obs.vector"][t]}
        with torch.no_grad():
            extras["q"].append(learner.policy.critic(obs, data.rows["action"][t]))
            extras["v"].append(learner.policy.critic(obs, learner.policy.actor(obs)))
    rows = {**data.rows, **{f"extra.{name}": torch.stack(values) for name, values in extras.items()}}
    first = learner.policy.priorities(rows, learner.windows)
    torch.testing.assert_close(first, losses(learner, data)[1], rtol=1e-4, atol=1e-6)


def test_decisions() -> None:
    policy = make(explore=ActionNoise(0.3)).policy
    rows = {name: value[0] for name, value in batch(make()).rows.items()}
    obs, u = {"vector": rows["obs.vector"]}, torch.rand(5, policy.noise)
    with torch.no_grad():
        best = policy.actor(obs)
        expected = {
            "greedy": best,
            "explore": normal_sample(best, 0.3, u).clamp(-1, 1),
            "random": 2 * u - 1,
        }
        for play, action in expected.items():
            decision = policy.step({}, rows, Tape(u), Seat.alone(5, play))  # type: ignore[arg-type]
            torch.testing.assert_close(decision.action, action)
            torch.testing.assert_close(decision.extras["q"], policy.critic(obs, action))
            torch.testing.assert_close(decision.extras["v"], policy.critic(obs, best))
    assert not torch.equal(expected["greedy"], expected["explore"])


def test_unrolling_is_stepping() -> None:
    learner = make(IMAGE, {"learn": 4}, stack=3)
    rows = batch(learner).rows
    state = learner.policy.initial_state(5)
    actions = []
    with torch.no_grad():
        unrolled, last = learner.policy.unroll(state, rows, Noise(0))
        for t in range(learner.windows.length):
            row = {name: value[t] for name, value in rows.items()}
            decision = learner.policy.step(state, row, Noise(0), Seat.alone(5, "greedy"))
            actions.append(decision.action)
            state = decision.state
    torch.testing.assert_close(unrolled, torch.stack(actions))
    assert all(torch.equal(last[name], value) for name, value in state.items())


def test_targets_are_copied_every_third_update() -> None:
    learner = make()
    first = learner.target_critic.layers.out.weight.clone()
    for step in range(1, 7):
        learner.update(batch(learner, seed=step))
        equal = all(torch.equal(old, new) for old, new in learner.pairs)
        assert equal == (step % 3 == 0)
    assert not torch.equal(first, learner.target_critic.layers.out.weight)


def test_it_goes_on_exactly() -> None:
    learner = make(torso=TorsoConfig(layers=0, standardise=True))
    for seed in range(4):
        learner.update(batch(learner, seed=seed))
    other = make(seed=9, torso=TorsoConfig(layers=0, standardise=True))
    other.restore(copy.deepcopy(learner.save()))
    for seed in range(4, 8):
        one, two = learner.update(batch(learner, seed=seed)).metrics, other.update(batch(learner, seed=seed)).metrics
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("env", [VECTOR, IMAGE], ids=["vector", "image"])
def test_update_is_static_and_never_waits(env: EnvSpec) -> None:
    learner = make(env, stack=3 if env is IMAGE else 1)
    learner.update(batch(learner))
    traces = []
    for seed in range(1, 4):
        data = batch(learner, seed=seed)
        with Watch() as watch:
            learner.update(data)
        traces.append(watch.trace)
    assert len(traces[0]) > 50
    assert traces[0] == traces[1] == traces[2]
    assert [name for name, _ in traces[0] if name in WAITING] == []


@on_gpu
def test_a_recorded_update_is_the_update() -> None:
    outcomes = []
    for captured in (False, True):
        learner = make(device=torch.device("cuda"))
        update = CapturedUpdate(learner) if captured else learner.update
        outcomes.append(outcome(learner, update, [batch(learner, seed=seed) for seed in range(EAGER + 4)]))
    same(*outcomes)


def test_what_it_cannot_do_is_said() -> None:
    discrete = EnvSpec("test", VECTOR.observation, spaces.Discrete(2))
    with pytest.raises(ValueError, match="needs continuous actions"):
        make(discrete)
    for changes, words in (({"stack": 0}, "stack"), ({"slope_clip": 0.0}, "slope_clip"), ({"beta": 2.0}, "beta")):
        with pytest.raises(ValueError, match=words):
            make(**changes)
    with pytest.raises(UserError, match="unknown preset"):
        make_config("apex-dpg", "atari")


def test_the_published_numbers() -> None:
    """Horgan et al. 2018, appendix D."""
    config = make_config("apex-dpg", "dmc-proprio", "dmc/cartpole-swingup")
    agent = config.agent
    assert (agent.actor_units, agent.critic_units, agent.act, agent.n_step) == ((300, 200), (400, 300), "tanh", 5)
    assert (agent.opt.lr, agent.actor_opt.lr, agent.target_every, agent.slope_clip) == (1e-4, 1e-4, 100, 1.0)
    assert (agent.explore.amount, agent.beta, agent.beta_end) == (0.3, 0.4, 0.4)
    assert (config.replay.batch, config.replay.selector.alpha, config.env.num_envs) == (256, 0.6, 32)
