"""Heads compose with memory: atoms and quantiles in DRQN and R2D2, against slow loops, and step by step as unrolled.

None of these agents is in the package. Each is one method: which head.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from reverie.agents.agent import Noise, Seat
from reverie.agents.drqn import DRQN, DRQNConfig
from reverie.agents.exploration import Exploration
from reverie.agents.r2d2 import R2D2, R2D2Config
from reverie.data.sequences import Batch
from reverie.nets.distributional_heads import ImplicitQuantiles, RainbowQ
from reverie.nets.q_heads import QHead
from reverie.nets.values import Atoms
from reverie.ops.projection import atoms
from tests.agents.value import IMAGE, VECTOR, batch, disturb, go_on, losses, make, slow_features, slow_n_step
from tests.ops.test_projection import slow as slow_projection

LEVELS, TARGETS, ACTING = 5, 4, 3
ATOMS = (-3.0, 3.0, 11)


@dataclass(frozen=True)
class QuietR2D2Config(R2D2Config):
    """R2D2's, for heads whose outputs are no action values."""

    actor_priorities: bool = False
    explore: Exploration = field(default_factory=lambda: Exploration(kind="ladder", evaluation=0.0))


@dataclass(frozen=True)
class QuietDRQNConfig(DRQNConfig):
    """DRQN's, with no random actions in evaluation."""

    explore: Exploration = field(default_factory=lambda: Exploration(evaluation=0.0))


def noisy_atoms(agent: Any, inputs: int) -> QHead:
    return RainbowQ(inputs, agent.actions, agent.config.hidden, True, Atoms(atoms(*ATOMS)), 0.5)


class CategoricalDRQN(DRQN):
    Config: ClassVar[type] = QuietDRQNConfig
    head = noisy_atoms


class CategoricalR2D2(R2D2):
    Config: ClassVar[type] = QuietR2D2Config
    head = noisy_atoms


class QuantileDRQN(DRQN):
    Config: ClassVar[type] = QuietDRQNConfig

    def head(self, inputs: int) -> QHead:
        return ImplicitQuantiles(super().head(inputs), inputs, 6, LEVELS, TARGETS, ACTING)


class QuantileR2D2(R2D2):
    Config: ClassVar[type] = QuietR2D2Config

    def head(self, inputs: int) -> QHead:
        return ImplicitQuantiles(super().head(inputs), inputs, 6, LEVELS, TARGETS, ACTING)


AGENTS: list[tuple[type, dict[str, Any], dict[str, Any]]] = [
    (CategoricalDRQN, {"learn": 6}, {}),
    (CategoricalR2D2, {"learn": 6, "context": 3, "state": "stored"}, {"stack": 2, "n_step": 3, "reward": "sign"}),
    (QuantileDRQN, {"learn": 6, "context": 3}, {"dueling": True}),
    (QuantileR2D2, {"learn": 6, "state": "stored"}, {"stack": 2, "n_step": 2, "feed": False}),
]
EACH = pytest.mark.parametrize(("agent", "spec", "settings"), AGENTS, ids=[agent.__name__ for agent, _, _ in AGENTS])


def built(agent: type, spec: dict[str, Any], settings: dict[str, Any], env: Any = VECTOR, seed: int = 0) -> Any:
    return make(f"{__name__}:{agent.__name__}", env, spec, seed, units=5, **settings)


def core_outputs(policy: Any, learner: Any, data: Batch, b: int) -> Tensor:
    """What the head reads at every row of window b, [T, F]."""
    stored = data.start is not None
    state = data.start if stored else policy.initial_state(5)
    lookback = 0 if stored else min(policy.lookback, learner.windows.context)
    return slow_features(policy, data.rows, state, b, lookback, None if stored else 0)


def kl(predicted: Tensor, target: list[float]) -> float:
    pairs = zip(target, predicted.softmax(-1).tolist(), strict=True)
    return sum(p * (math.log(p) - math.log(q)) for p, q in pairs if p > 0)


def slow_atoms(
    outputs: dict[str, Tensor], action: int, earned: float, discount: float, config: Any
) -> tuple[float, float]:
    """Loss and error of one row. outputs: logits [A, K]."""
    z = torch.linspace(*ATOMS, dtype=torch.float64)
    older = outputs["ahead"].softmax(-1).double()
    chooser = outputs["chooser"].softmax(-1).double() if config.double else older
    best = int((chooser @ z).argmax())
    values = [earned + discount * atom for atom in z.tolist()]
    loss = kl(outputs["here"][action], slow_projection(older[best].tolist(), values, z.tolist()))
    return loss, loss


def slow_quantiles(
    outputs: dict[str, Tensor], action: int, earned: float, discount: float, config: Any
) -> tuple[float, float]:
    """Loss and error of one row. outputs: [1 + A, M], the levels first."""
    older = outputs["ahead"]
    chooser = outputs["chooser"][1:] if config.double else older[1:, TARGETS:]
    best = int(chooser.mean(-1).argmax())
    samples = [earned + discount * z for z in older[1 + best, :TARGETS].tolist()]
    here = outputs["here"]
    levels, predicted = here[0].tolist(), here[1 + action].tolist()
    assert (len(samples), len(levels)) == (TARGETS, LEVELS)
    loss = 0.0
    for tau, z in zip(levels, predicted, strict=True):
        for y in samples:
            size = 0.5 * (y - z) ** 2 if abs(y - z) <= 1 else abs(y - z) - 0.5
            loss += abs(tau - (y < z)) * size / len(samples)
    return loss, abs(sum(samples) / len(samples) - sum(predicted) / len(predicted))


@EACH
@pytest.mark.parametrize("env", [IMAGE, VECTOR], ids=["image", "vector"])
@torch.no_grad()
def test_losses_and_priorities_are_the_slow_ones(agent: type, spec: Any, settings: Any, env: Any) -> None:
    """Each reading has noise of its own: of the learned rows, of the rows ahead through either network."""
    learner = built(agent, spec, settings, env)
    disturb(learner)
    config, windows, summed = learner.config, learner.windows, issubclass(agent, R2D2)
    row_loss = slow_atoms if isinstance(learner.head, RainbowQ) else slow_quantiles
    for seed in range(2):
        data = batch(learner, seed=seed, ends=0.15)
        learner.noise = Noise(seed)
        draws = [draw.expand(windows.learn, 5, -1) for draw in learner.head_noise(5)]
        learner.noise = Noise(seed)
        loss, priorities = losses(learner, data)
        weights = [float(p) ** -config.beta for p in data.probabilities]
        total, count, slow = 0.0, 0, []
        for b in range(5):
            networks = {"online": learner.policy, "target": learner.target}
            features = {name: core_outputs(policy, learner, data, b) for name, policy in networks.items()}
            errors = []
            for t in range(windows.context, windows.context + windows.learn):
                if data.rows["is_last"][t, b]:
                    continue
                earned, discount, ahead = slow_n_step(data.rows, t, b, config)
                readings = {"here": ("online", t), "chooser": ("online", ahead), "ahead": ("target", ahead)}
                outputs = {
                    reading: networks[name].network.head(features[name][row], draw[t - windows.context, b])
                    for draw, (reading, (name, row)) in zip(draws, readings.items(), strict=True)
                }
                one, error = row_loss(outputs, int(data.rows["action"][t, b]), earned, discount, config)
                total += weights[b] / max(weights) * one
                errors.append(error)
            count += len(errors)
            mean = sum(errors) / max(len(errors), 1)
            slow.append(0.9 * max(errors, default=0.0) + 0.1 * mean if summed else mean)
        assert loss.item() == pytest.approx(total / (5 if summed else count), rel=1e-4)
        assert priorities.tolist() == pytest.approx(slow, rel=1e-3, abs=1e-5)


@EACH
@pytest.mark.parametrize("env", [IMAGE, VECTOR], ids=["image", "vector"])
@torch.no_grad()
def test_step_is_unroll_with_the_same_noise(agent: type, spec: Any, settings: Any, env: Any) -> None:
    learner = built(agent, spec, settings, env)
    policy, rows = learner.policy, batch(learner, ends=0.3).rows
    tape = Noise(0).tape(*rows["reward"].shape, policy.noise)
    together, last = policy.unroll(policy.initial_state(5), rows, tape)
    seen: list[Tensor] = []
    policy.network.head.register_forward_hook(lambda module, given, outputs: seen.append(outputs))
    state = policy.initial_state(5)
    for t in range(len(rows["reward"])):
        row = {name: value[t] for name, value in rows.items()}
        decision = policy.step(state, row, tape[t], Seat.alone(5))
        state = decision.state
        assert torch.allclose(seen[-1], together[t], atol=1e-5)
        assert torch.equal(decision.action, policy.network.head.q(together[t]).argmax(-1))
    assert len(seen) == len(rows["reward"])
    assert all(torch.allclose(state[name], last[name], atol=1e-5) for name in last)
    other, _ = policy.unroll(policy.initial_state(5), rows, Noise(1).tape(*rows["reward"].shape, policy.noise))
    assert not torch.allclose(other, together, atol=1e-3)  # the noise is heard


@EACH
def test_it_updates_and_goes_on_where_it_was_saved(agent: type, spec: Any, settings: Any) -> None:
    made = {"spec": spec, "units": 5, "target_every": 2, **settings}
    name = f"{__name__}:{agent.__name__}"
    learner = make(name, VECTOR, **made)
    before = [parameter.clone() for parameter in learner.policy.parameters()]
    go_on(name, learner, env=VECTOR, **made)
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))


@pytest.mark.parametrize("agent", [CategoricalR2D2, QuantileR2D2])
def test_drift_is_read_with_steady_noise(agent: type) -> None:
    """A stored state cannot have drifted at the row it was stored for, with whatever noise losses are read."""
    learner = built(agent, {"learn": 6, "period": 2, "state": "stored", "drift": True}, {})
    data = batch(learner, ends=0.0)
    assert data.probes is not None
    assert data.start is not None
    for name, value in data.probes.items():
        value[0] = data.start[name]
    metrics: dict[str, Tensor] = {}
    losses(learner, data, metrics)
    assert metrics["drift_first"] < 1e-5
    assert metrics["drift_last"] > 1e-3


@pytest.mark.parametrize("agent", [CategoricalR2D2, QuantileR2D2])
def test_priorities_of_actors_need_action_values(agent: type) -> None:
    with pytest.raises(ValueError, match="actor_priorities need action values as outputs"):
        built(agent, {"learn": 6}, {"actor_priorities": True})
