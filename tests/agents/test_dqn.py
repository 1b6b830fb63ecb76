"""DQN and its parts: losses against slow loops, targets by hand, exploration, stacks, identities, saving."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.agents.agent import Seat, Tape
from reverie.agents.dqn import DQN, DQNConfig
from reverie.agents.exploration import Exploration
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.optim import OptimConfig
from reverie.nets.q_heads import Reads
from reverie.ops.n_step import NStep
from tests.agents.value import (
    IMAGE,
    SMALL,
    VECTOR,
    batch,
    count,
    decide,
    disturb,
    go_on,
    losses,
    make,
    same_parameters,
    slow_n_step,
    slow_values,
)

SETTINGS: list[dict[str, Any]] = [
    {},
    {"double": True},
    {"double": True, "dueling": True, "n_step": 3, "stack": 3},
    {"n_step": 2, "stack": 1, "reward": "identity", "reward_scale": 0.3},
    {"n_step": 3, "loss": "squared"},
]


def slow_update(learner: Any, data: Any, beta: float) -> tuple[float, list[float]]:
    """Loss and priorities, one row after another."""
    config, spec, rows = learner.config, learner.windows, data.rows
    blank = learner.policy.initial_state(5)
    weights = [float(p) ** -beta for p in data.probabilities]
    total, priorities = 0.0, []
    for b in range(5):
        online = slow_values(learner.policy, rows, blank, b, 0)
        target = slow_values(learner.target, rows, blank, b, 0)
        errors: list[float] = []
        for t in range(spec.context, spec.context + spec.learn):
            if rows["is_last"][t, b]:
                continue
            earned, discount, i = slow_n_step(rows, t, b, config)
            best = int((online if config.double else target)[i].argmax())
            error = earned + discount * float(target[i, best]) - float(online[t, rows["action"][t, b]])
            errors.append(abs(error))
            loss = 0.5 * error**2 if abs(error) <= 1 or config.loss == "squared" else abs(error) - 0.5
            total += weights[b] / max(weights) * loss / 5
        priorities.append(sum(errors) / max(len(errors), 1))
    return total, priorities


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("env", "learn"), [(IMAGE, 1), (IMAGE, 4), (VECTOR, 1)])
@torch.no_grad()
def test_loss_and_priorities_are_the_slow_ones(settings: dict[str, Any], env: EnvSpec, learn: int) -> None:
    learner = make("dqn", env, {"learn": learn}, **settings)
    disturb(learner)
    for seed in range(4):
        data = batch(learner, seed=seed, ends=0.3)
        loss, found = losses(learner, data)
        expected, priorities = slow_update(learner, data, 0.4)
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert found.tolist() == pytest.approx(priorities, rel=1e-4, abs=1e-6)


def test_targets_by_hand() -> None:
    """r = 1 then 2 at gamma 1/2, Q' = 3, 5, 4 and Q = 9, 0, 8 two steps on: 2 + 5/4 for DQN, 2 + 3/4 for Double."""
    steps = NStep(torch.tensor([[2.0]]), torch.tensor([[0.25]]), torch.tensor([[2]]))
    older, newer = torch.tensor([[[3.0, 5.0, 4.0]]]), torch.tensor([[[9.0, 0.0, 8.0]]])
    head, taken = make(n_step=2).head, torch.zeros(1, 1, dtype=torch.int64)
    assert head.target(Reads(older, None, None, taken), steps).item() == 2 + 5 / 4
    assert head.target(Reads(older, newer, None, taken), steps).item() == 2 + 3 / 4


def test_the_online_network_is_read_only_where_it_chooses() -> None:
    for double in (False, True):
        learner = make(n_step=2, double=double)
        data = batch(learner)
        rows = {name: value[learner.windows.context :] for name, value in data.rows.items()}
        evaluated = learner.evaluate(data, learner.bellman.target_parts(rows, 1, learner.policy.version), {})
        assert (evaluated.online is not None) is double
        assert evaluated.here is None  # no head here asks for it


def test_the_gradient_is_clipped_and_not_the_loss() -> None:
    value = torch.tensor([[[0.0, 0.0, 7.0], [0.5, 0.0, 0.0]]], requires_grad=True)
    loss, error = make().head.loss(value, torch.tensor([[2, 0]]), torch.tensor([[1.0, 0.75]]))
    assert loss.tolist() == [[5.5, 0.03125]]
    assert error.tolist() == [[-6.0, 0.25]]
    loss.sum().backward()
    assert value.grad.tolist() == [[[0.0, 0.0, 1.0], [-0.25, 0.0, 0.0]]]


def test_the_squared_error_is_not_clipped() -> None:
    value = torch.tensor([[[0.0, 0.0, 7.0], [0.5, 0.0, 0.0]]], requires_grad=True)
    loss, error = make(loss="squared").head.loss(value, torch.tensor([[2, 0]]), torch.tensor([[1.0, 0.75]]))
    assert loss.tolist() == [[18.0, 0.03125]]
    assert error.tolist() == [[-6.0, 0.25]]
    loss.sum().backward()
    assert value.grad.tolist() == [[[0.0, 0.0, 6.0], [-0.25, 0.0, 0.0]]]


def test_importance_weights_by_hand() -> None:
    """Priorities 1, 2, 4, 8 at alpha 0.6 and beta 0.4."""
    probabilities = torch.tensor([0.12055, 0.18272, 0.276951, 0.419779])
    weights = make(beta=0.4).importance(probabilities)
    assert weights.tolist() == pytest.approx([1.0, 0.846745, 0.716978, 0.607097], abs=1e-5)


def test_beta_is_annealed_over_learner_steps() -> None:
    learner = make(beta=0.4, beta_end=1.0, beta_over=10)
    probabilities = torch.tensor([0.1, 0.2])
    for updates, beta in ((0, 0.4), (5, 0.7), (10, 1.0), (99, 1.0)):
        count(learner, updates)
        assert learner.importance(probabilities).tolist() == pytest.approx([1.0, 0.5**beta])


def test_steps_ahead_fall_by_the_same_factor() -> None:
    """8 to 2 over 4 learner_steps: a factor of 0.707 each, 8, 5.66, 4, 2.83, 2, rounded; then they stay."""
    learner = make(n_step=8, n_step_end=2, n_step_over=4)
    rows = {name: value[learner.windows.context :] for name, value in batch(learner, ends=0.0).rows.items()}
    assert learner.windows.lookahead == 8
    ahead = []
    for updates in (0, 1, 2, 3, 4, 5, 100):
        count(learner, updates)
        steps = learner.bellman.target_parts(rows, learner.windows.learn, learner.policy.version)
        ahead.append(steps.ahead.unique().tolist())
    assert ahead == [[8], [6], [4], [3], [2], [2], [2]]
    with pytest.raises(ValueError, match="n_step_end <= n_step 3, got 4"):
        DQNConfig(n_step=3, n_step_end=4, n_step_over=10)


def test_double_with_one_network_for_both_is_dqn() -> None:
    """The online network's best action has the target network's largest value if they are the same."""
    plain, double = make(n_step=2, target_every=1), make(n_step=2, target_every=1, double=True)
    for seed in range(4):
        data = batch(plain, seed=seed)
        first, second = plain.update(data), double.update(data)
        assert torch.equal(first.metrics["q_loss"], second.metrics["q_loss"])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), double.parameters(), strict=True))
    other = make(n_step=2, target_every=100, double=True)
    disturb(other, seed=2)
    plain = make(n_step=2, target_every=100)
    same_parameters(other, plain)
    data = batch(plain, width=64)
    assert plain.update(data).metrics["q_loss"] != other.update(data).metrics["q_loss"]


def test_without_prioritised_draws_beta_does_nothing() -> None:
    losses = []
    for beta in (0.0, 1.0):
        learner = make(beta=beta)
        data = replace(batch(learner), probabilities=torch.full((5,), 0.01))
        losses.append(learner.update(data).metrics["q_loss"])
    assert torch.equal(losses[0], losses[1])


def test_target_is_copied_after_every_nth_update() -> None:
    learner = make(target_every=3)
    same = []
    for seed in range(7):
        learner.update(batch(learner, seed=seed))
        pairs = zip(learner.target.parameters(), learner.policy.parameters(), strict=True)
        same.append(all(torch.equal(a, b) for a, b in pairs))
    assert same == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("env", [IMAGE, VECTOR])
def test_both_networks_standardise_alike_and_an_update_adapts_them(env: EnvSpec) -> None:
    learner = make(env=env, torso=replace(SMALL["torso"], standardise=True))
    mine, theirs = (policy.network.torso.statistics[0] for policy in (learner.policy, learner.target))
    data = batch(learner)
    for _ in range(2):
        learner.update(data)
    key = next(name for name in data.rows if name.startswith("obs."))
    seen = data.rows[key][learner.windows.context].float() / (255 if env is IMAGE else 1)
    assert torch.allclose(mine.mean, seen.mean(0), atol=1e-5)
    assert torch.equal(mine.mean, theirs.mean)
    assert torch.equal(mine.variance, theirs.variance)
    two = make(env=env, seed=9, torso=replace(SMALL["torso"], standardise=True))
    two.restore(learner.save())
    assert torch.equal(two.target.network.torso.statistics[0].mean, mine.mean)
    assert torch.equal(two.update(data).metrics["q_loss"], learner.update(data).metrics["q_loss"])


def test_what_must_not_be_read_is_not_read() -> None:
    """Poison: rewards of first rows, actions of last rows, previous actions, rows behind the bootstrap."""
    one, two = make(n_step=2, stack=2), make(n_step=2, stack=2)
    clean = batch(one, width=40, ends=0.4)
    rows = {name: value.clone() for name, value in clean.rows.items()}
    rows["reward"][rows["is_first"]] = float("nan")
    rows["reward"][:2] = float("nan")
    rows["action"][rows["is_last"]] = 2
    rows["prev_action"][:] = 1
    learned = one.windows.context
    over = rows["is_last"][learned + 1]
    rows["obs.image"][learned + 2][over] = 77
    rows["reward"][learned + 2][over] = float("nan")
    first, second = one.update(clean), two.update(replace(clean, rows=rows))
    assert torch.equal(first.metrics["q_loss"], second.metrics["q_loss"])
    assert torch.equal(first.feedback.priorities, second.feedback.priorities)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_context_rows_of_a_stack_pass_no_convolution() -> None:
    learner = make(stack=4, n_step=3, double=True)
    seen: list[int] = []
    for policy in (learner.policy, learner.target):
        cnn = policy.network.torso.cnns[0]
        cnn.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    learner.update(batch(learner, width=5))
    # Window: 3 context rows, 1 learned, 3 to bootstrap from. Online: the learned row and one more; target: one.
    assert learner.windows == SequenceSpec(context=3, learn=1, lookahead=3)
    assert seen == [5, 5, 5]


def test_vectors_need_no_rows_for_a_stack() -> None:
    assert make("dqn", VECTOR, stack=4, n_step=2).windows == SequenceSpec(context=0, learn=1, lookahead=2)


def test_step_is_unroll_and_sees_the_last_frames() -> None:
    learner = make(stack=3)
    policy = learner.policy
    rows = batch(learner, ends=0.3).rows
    u = torch.rand(len(rows["reward"]), 5, policy.noise)
    together, last = policy.unroll(policy.initial_state(5), rows, Tape(u))
    state = policy.initial_state(5)
    for t in range(len(u)):
        row = {name: value[t] for name, value in rows.items()}
        decision = policy.step(state, row, Tape(u)[t], Seat.alone(5))
        action, state = decision.action, decision.state
        assert decision.extras == {}
        assert action.dtype == torch.int64
        greedy = together[t].argmax(-1)
        random = u[t, :, 0] < policy.exploration.evaluation
        assert torch.equal(action[~random], greedy[~random])
    assert all(torch.equal(state[name], last[name]) for name in last)


def test_epsilon_belongs_to_streams() -> None:
    learner = make("dqn", VECTOR, explore=Exploration(kind="ladder", base=0.5, alpha=2.0, evaluation=0.0))
    policy = learner.policy
    rows = {name: value[0, :1].repeat_interleave(2, 0) for name, value in batch(learner).rows.items()}
    greedy = decide(policy, rows, torch.zeros(2, 2)).action
    counts = torch.zeros(2)
    g = torch.Generator().manual_seed(0)
    for _ in range(3000):
        u = torch.rand(2, 2, generator=g)
        action = policy.step({}, rows, Tape(u), Seat(range(2), 2, env_steps=123)).action
        random = u[:, 0] < torch.tensor([0.5, 0.125])
        assert torch.equal(action, torch.where(random, (u[:, 1] * 3).long(), greedy))
        counts += random
    assert (counts / 3000).tolist() == pytest.approx([0.5, 0.125], abs=0.03)


def test_random_actions_are_uniform_and_in_range() -> None:
    u = torch.rand(6000, 2, generator=torch.Generator().manual_seed(0))
    u[0] = 1.0
    learner = make("dqn", VECTOR)
    rows = {name: value[0, :1].repeat_interleave(6000, 0) for name, value in batch(learner).rows.items()}
    actions = decide(learner.policy, rows, u, "random").action
    assert torch.bincount(actions, minlength=3).tolist() == pytest.approx([2000, 2000, 2000], abs=150)


def test_save_and_restore_go_on_bit_for_bit() -> None:
    settings: dict[str, Any] = {"double": True, "target_every": 2, "beta_over": 5, "opt": OptimConfig(kind="rmsprop")}
    go_on("dqn", make(**settings), **settings)


def test_what_cannot_be_is_refused() -> None:
    box = EnvSpec("test", VECTOR.observation, spaces.Box(-1, 1, (2,), np.float32))
    with pytest.raises(ValueError, match="need a Discrete action space"):
        make("dqn", box)
    with pytest.raises(ValueError, match="n_step must be at least 1, got 0"):
        DQNConfig(n_step=0)
    with pytest.raises(ValueError, match="reward_scale must be positive, got 0"):
        DQNConfig(reward_scale=0.0)
    with pytest.raises(ValueError, match="gamma must be"):
        DQNConfig(gamma=1.5)
    with pytest.raises(ValueError, match=r"beta and beta_end in \[0, 1\], got 1.2"):
        DQNConfig(beta=1.2)
    with pytest.raises(ValueError, match="got 'cut'"):
        DQNConfig(reward="cut")


def test_the_network_is_the_published_one() -> None:
    """Extended Data Table 1 and Methods: 84x84x4, three convolutions, 512 units, one output per action."""
    atari = EnvSpec("test", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(4))
    policy = DQN(DQNConfig(), atari).policy()
    shapes = [tuple(p.shape) for p in policy.parameters() if p.dim() > 1]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136), (4, 512)]
