"""Rainbow: loss and priorities against a slow loop, DQN without its parts, each switch, noise, saving."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie import overrides
from reverie.agents.agent import Noise
from reverie.agents.exploration import Exploration
from reverie.agents.rainbow import Rainbow, RainbowConfig
from reverie.data.selectors import PrioritisedConfig
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.nets.noisy import MEAN
from reverie.nets.optim import OptimConfig
from reverie.nets.q_heads import Reads
from reverie.nets.schedule import resolve
from reverie.ops.n_step import NStep
from reverie.presets import make_config
from reverie.run.length import run_length
from tests.agents.value import IMAGE, VECTOR, batch, decide, disturb, go_on, losses, make, slow_n_step
from tests.ops.test_projection import slow as slow_projection

OFF: dict[str, Any] = {"double": False, "dueling": False, "n_step": 1, "distributional": False, "noisy": False}
SMALL: dict[str, Any] = {"atoms": 11, "v_min": -3.0, "v_max": 3.0}


def head(policy: Any, rows: dict[str, Tensor], t: int, b: int, u: Tensor) -> Tensor:
    """Outputs at one row of vectors, with this noise."""
    row = {name: value[t, b][None] for name, value in rows.items()}
    network = policy.network
    return network.head(network.features({"vector": row["obs.vector"]}, row), u[None])[0]


def slow_update(learner: Any, data: Batch, noises: list[Tensor]) -> tuple[float, list[float]]:
    """KL of projected n-step targets, one row after another; priorities are the mean KL of a window."""
    config, spec, rows = learner.config, learner.windows, data.rows
    z = torch.linspace(config.v_min, config.v_max, config.atoms, dtype=torch.float64).tolist()
    weights = [float(p) ** -0.4 for p in data.probabilities]
    total, priorities = 0.0, []
    for b in range(5):
        errors = []
        for t in range(spec.learn):
            if rows["is_last"][t, b]:
                continue
            earned, discount, i = slow_n_step(rows, t, b, config)
            online, target = (
                head(policy, rows, i, b, u).softmax(-1)
                for policy, u in ((learner.policy, noises[1]), (learner.target, noises[2]))
            )
            best = int(((online if config.double else target) @ torch.tensor(z).float()).argmax())
            values = [earned + discount * atom for atom in z]
            projected = slow_projection(target[best].tolist(), values, z)
            predicted = head(learner.policy, rows, t, b, noises[0])[rows["action"][t, b]].softmax(-1).tolist()
            pairs = zip(projected, predicted, strict=True)
            errors.append(sum(p * (math.log(p) - math.log(q)) for p, q in pairs if p > 0))
            total += weights[b] / max(weights) * errors[-1] / 5
        priorities.append(sum(errors) / max(len(errors), 1))
    return total, priorities


@pytest.mark.parametrize(
    "settings", [{}, {"double": False, "dueling": False}, {"noisy": False, "n_step": 1}], ids=["all", "c51", "quiet"]
)
@pytest.mark.parametrize("learn", [1, 4])
@torch.no_grad()
def test_loss_and_priorities_are_the_slow_ones(settings: dict[str, Any], learn: int) -> None:
    learner = make("rainbow", VECTOR, {"learn": learn}, **SMALL, **settings)
    disturb(learner)
    count = learner.policy.network.head.noise
    for seed in range(4):
        data = batch(learner, seed=seed, ends=0.3)
        noise, learner.noise = Noise(seed), Noise(seed)
        loss, priorities = losses(learner, data)
        expected, slow = slow_update(learner, data, [noise.uniform(count) for _ in range(3)])
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert priorities.tolist() == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_targets_by_hand() -> None:
    """z = -2..2, p = (.1, .2, .4, .2, .1), r = .7 and gamma = .9; the same at an end; their KL to a uniform guess."""
    head = make("rainbow", VECTOR, atoms=5, v_min=-2.0, v_max=2.0, double=False).head
    p = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1])
    other = torch.tensor([0.9, 0.1, 1e-9, 1e-9, 1e-9])
    logits = torch.stack([other, p, other]).log().expand(1, 2, 3, 5)
    steps = NStep(torch.tensor([[0.7, 0.7]]), torch.tensor([[0.9, 0.0]]), torch.tensor([[1, 1]]))
    targets = head.target(Reads(logits, None, None, torch.zeros(1, 2, dtype=torch.int64)), steps)
    assert targets[0, 0].tolist() == pytest.approx([0.01, 0.13, 0.28, 0.36, 0.22], abs=1e-6)
    assert targets[0, 1].tolist() == pytest.approx([0.0, 0.0, 0.3, 0.7, 0.0], abs=1e-6)
    loss, error = head.loss(torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, dtype=torch.int64), targets)
    kl = [sum(q * math.log(5 * q) for q in row if q > 1e-5) for row in targets[0].tolist()]
    assert loss[0].tolist() == pytest.approx(kl, rel=1e-5)
    assert torch.equal(loss, error)


def test_what_is_known_exactly_has_no_priority() -> None:
    """A random return that is predicted perfectly: KL 0, where the cross-entropy would be its entropy, 1.5 bits."""
    learner = make("rainbow", VECTOR, atoms=3, v_min=-1.0, v_max=1.0)
    target = torch.tensor([[[0.25, 0.5, 0.25]]])
    logits = target.log().unsqueeze(2).expand(1, 1, 3, 3)
    loss, error = learner.head.loss(logits, torch.zeros(1, 1, dtype=torch.int64), target)
    assert (loss.item(), error.item()) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))


def test_the_gradient_is_predicted_minus_target() -> None:
    learner = make("rainbow", VECTOR, atoms=3, v_min=-1.0, v_max=1.0)
    logits = torch.zeros(1, 1, 3, 3, requires_grad=True)
    target = torch.tensor([[[0.0, 1.0, 0.0]]])
    learner.head.loss(logits, torch.ones(1, 1, dtype=torch.int64), target)[0].sum().backward()
    third = pytest.approx(1 / 3)
    assert logits.grad is not None
    assert logits.grad[0, 0].tolist() == [[0.0] * 3, [third, pytest.approx(-2 / 3), third], [0.0] * 3]


@pytest.mark.parametrize(("env", "learn"), [(IMAGE, 1), (IMAGE, 3), (VECTOR, 1)])
@pytest.mark.parametrize("shared", [{}, {"double": True, "dueling": True, "n_step": 3, "actor_priorities": True}])
def test_without_its_parts_it_is_dqn(env: EnvSpec, learn: int, shared: dict[str, Any]) -> None:
    settings = {
        **OFF,
        **shared,
        "target_every": 2,
        "beta_over": 3,
        "explore": Exploration(),
        "opt": OptimConfig(lr=0.1),
    }
    mine = make("rainbow", env, {"learn": learn}, **settings)
    parent = make("dqn", env, {"learn": learn}, **{k: v for k, v in settings.items() if k not in OFF or k in shared})
    for name in ("double", "dueling", "n_step"):
        assert getattr(mine.config, name) == getattr(parent.config, name)
    for seed in range(5):
        data = batch(mine, seed=seed, ends=0.3)
        ours, theirs = mine.update(data), parent.update(data)
        assert all(torch.equal(ours.metrics[name], theirs.metrics[name]) for name in theirs.metrics)
        assert torch.equal(ours.feedback.priorities, theirs.feedback.priorities)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), parent.parameters(), strict=True))
    rows = {name: value[0] for name, value in batch(mine).rows.items()}
    u = torch.rand(5, parent.policy.noise)
    acts = [decide(learner.policy, rows, u, "explore") for learner in (mine, parent)]
    assert torch.equal(acts[0].action, acts[1].action)
    assert acts[0].extras.keys() == acts[1].extras.keys()
    assert all(torch.equal(acts[0].extras[name], value) for name, value in acts[1].extras.items())


def test_each_part_changes_the_update() -> None:
    """One part on at a time, from the same parameters where there are the same."""
    base = make("rainbow", VECTOR, **OFF)
    data = batch(make("rainbow", VECTOR, **OFF | {"n_step": 3}), ends=0.1, width=32)
    one = replace(data, rows={name: value[:2] for name, value in data.rows.items()})
    disturb(base)
    without = base.update(one).metrics["q_loss"]
    for part in ("double", "dueling", "distributional", "noisy"):
        learner = make("rainbow", VECTOR, **OFF | {part: True})
        disturb(learner)
        assert learner.update(one).metrics["q_loss"] != without, part
    learner = make("rainbow", VECTOR, **OFF | {"n_step": 3})
    disturb(learner)
    assert learner.update(data).metrics["q_loss"] != without
    weighted = make("rainbow", VECTOR, **OFF)
    disturb(weighted)
    uniform = replace(one, probabilities=torch.full_like(one.probabilities, 0.1))
    assert weighted.update(uniform).metrics["q_loss"] != without


@pytest.mark.parametrize("off", list(itertools.product([False, True], repeat=4)))
def test_all_combinations_update(off: tuple[bool, ...]) -> None:
    parts = dict(zip(("double", "dueling", "distributional", "noisy"), off, strict=True))
    learner = make("rainbow", VECTOR, {"learn": 2}, **parts, **SMALL)
    before = [p.clone() for p in learner.policy.parameters()]
    result = learner.update(batch(learner))
    assert all(torch.isfinite(value) for value in result.metrics.values())
    assert result.feedback.priorities.shape == (5,)
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))


def test_noise_is_one_sample_per_network_and_update() -> None:
    """Independent between the three readings and from update to update; the same for all rows of a batch."""
    learner = make("rainbow", VECTOR, {"learn": 2})
    seen: list[Tensor] = []
    for policy in (learner.policy, learner.target):
        policy.network.head.register_forward_pre_hook(lambda module, args: seen.append(args[1].clone()))
    for seed in range(2):
        learner.update(batch(learner, seed=seed))
    assert len(seen) == 6
    assert all(u.shape == (1, 1, learner.policy.network.head.noise) for u in seen)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_acting_draws_for_every_stream_and_evaluation_plays_the_mean() -> None:
    learner = make("rainbow", VECTOR, sigma=20.0)
    policy = learner.policy
    rows = {name: value[0, :1].repeat_interleave(64, 0) for name, value in batch(learner).rows.items()}
    u = torch.rand(64, policy.noise, generator=torch.Generator().manual_seed(0))
    sampled = decide(policy, rows, u, "explore").action
    assert len(set(sampled.tolist())) > 1
    u[:, :2] = torch.rand(64, 2)
    assert torch.equal(decide(policy, rows, u, "explore").action, sampled)  # epsilon is 0: these two decide nothing
    network = policy.network
    features = network.features({"vector": rows["obs.vector"]}, rows)
    quiet = network.head.q(network.head(features, torch.full((64, network.head.noise), MEAN))).argmax(-1)
    for seed in range(3):
        other = torch.rand(64, policy.noise, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(decide(policy, rows, other, "greedy").action, quiet)


def test_without_noise_it_explores_with_epsilon() -> None:
    ladder = Exploration(kind="ladder", base=1.0, evaluation=0.25)
    policy = make("rainbow", VECTOR, noisy=False, explore=ladder).policy
    assert (policy.noise, policy.exploration) == (2, ladder)


def test_epsilon_on_top_of_the_noise_is_asked_for() -> None:
    """With `explore_too` training acts at random as often as `explore` says; noise and evaluation stay as they are."""
    always = Exploration(start=1.0, end=1.0, over=0, evaluation=0.0)
    rows = {name: value[0, :1].repeat_interleave(64, 0) for name, value in batch(make("rainbow", VECTOR)).rows.items()}
    for asked in (False, True):
        policy = make("rainbow", VECTOR, sigma=0.0, explore=always, explore_too=asked).policy
        u = torch.rand(64, policy.noise, generator=torch.Generator().manual_seed(0))
        assert (len(set(decide(policy, rows, u, "explore").action.tolist())) > 1) is asked
        assert len(set(decide(policy, rows, u, "greedy").action.tolist())) == 1


def test_save_and_restore_go_on_bit_for_bit() -> None:
    settings = {"target_every": 2, "beta_over": 5}
    go_on("rainbow", make("rainbow", **settings), **settings)


def test_the_network_is_the_published_one() -> None:
    """Nature's convolutions, two noisy streams of 512 units, 51 outputs and 51 per action."""
    atari = EnvSpec("test", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(4))
    policy = Rainbow(RainbowConfig(), atari).policy()
    shapes = [tuple(p.shape) for name, p in policy.named_parameters() if p.dim() == 2 and "sigma" in name]
    assert shapes == [(512, 3136), (51, 512), (512, 3136), (4 * 51, 512)]
    assert policy.network.head.values.support[[0, 25, 50]].tolist() == [-10.0, 0.0, 10.0]


def test_presets_have_all_six_parts_and_each_can_be_left_out() -> None:
    steps = {
        ("atari", "ALE/Pong-v5"): 3,
        ("cpu", "CartPole-v1"): 10,
        ("cpu", "toy/catch"): 3,
        ("cpu", "ALE/Pong-v5"): 3,
    }
    for (preset, env), n_step in steps.items():
        config = make_config("rainbow", preset, env)
        agent = config.agent
        assert (agent.double, agent.dueling, agent.n_step, agent.distributional, agent.noisy) == (
            True,
            True,
            n_step,
            True,
            True,
        )
        assert config.replay.selector == PrioritisedConfig(0.5)
        assert agent.beta_over == 1.0  # the whole run
        words = {f"agent.{name}": value for name, value in OFF.items()} | {"replay.selector": "uniform"}
        assert overrides.apply(config, words).agent.noisy is False
    config = make_config("rainbow", "atari")
    length = run_length(config, 4)
    assert resolve(config.agent, length).beta_over == 12_495_000


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 atoms"):
        RainbowConfig(atoms=1)
    with pytest.raises(ValueError, match="low < high, got 51 from 3"):
        RainbowConfig(v_min=3.0, v_max=2.0)
    with pytest.raises(ValueError, match="sigma must be at least 0, got -1"):
        RainbowConfig(sigma=-1.0)
    with pytest.raises(ValueError, match="actor_priorities need action values"):
        RainbowConfig(actor_priorities=True)
    with pytest.raises(ValueError, match="loss squared is of action values"):
        RainbowConfig(loss="squared")
    assert RainbowConfig(loss="squared", distributional=False).loss == "squared"
