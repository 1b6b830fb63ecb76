"""IQN: loss against a slow loop, targets by hand, levels, what it shares with DQN, saving."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from reverie.agents.agent import Noise
from reverie.agents.iqn import IQN, IQNConfig
from reverie.data.sequences import Batch
from reverie.envs.env import EnvSpec
from reverie.nets.q_heads import Reads
from reverie.ops.n_step import NStep
from reverie.presets import make_config
from tests.agents.value import IMAGE, VECTOR, batch, decide, disturb, go_on, losses, make, slow_n_step

LEVELS: dict[str, Any] = {"levels": 5, "target_levels": 4, "acting_levels": 3, "cosines": 6}


def quantiles(policy: Any, rows: dict[str, Tensor], t: int, b: int, taus: Tensor) -> Tensor:
    """[A, M] at one row of vectors and these levels."""
    row = {name: value[t, b][None] for name, value in rows.items()}
    network = policy.network
    return network.head(network.features({"vector": row["obs.vector"]}, row), taus[None])[0, 1:]


def slow_update(learner: Any, data: Batch, draws: tuple[Tensor, Tensor, Tensor]) -> tuple[float, list[float]]:
    """Loss and priorities, one pair of quantiles after another. draws: levels [learn, B, ...] of the three readings."""
    config, spec, rows = learner.config, learner.windows, data.rows
    count = config.target_levels
    weights = [float(p) ** -0.4 for p in data.probabilities]
    total, priorities = 0.0, []
    for b in range(5):
        errors = []
        for t in range(spec.learn):
            if rows["is_last"][t, b]:
                continue
            earned, discount, i = slow_n_step(rows, t, b, config)
            taus, online, target = (draw[t, b] for draw in draws)
            chooser = (learner.policy, online) if config.double else (learner.target, target[count:])
            best = int(quantiles(chooser[0], rows, i, b, chooser[1]).mean(-1).argmax())
            samples = [
                earned + discount * z for z in quantiles(learner.target, rows, i, b, target[:count])[best].tolist()
            ]
            predicted = quantiles(learner.policy, rows, t, b, taus)[rows["action"][t, b]].tolist()
            loss = 0.0
            for tau, z in zip(taus.tolist(), predicted, strict=True):
                for y in samples:
                    e = y - z
                    size = 0.5 * e * e if abs(e) <= 1 else abs(e) - 0.5
                    loss += abs(tau - (e < 0)) * size / len(samples)
            total += weights[b] / max(weights) * loss / 5
            errors.append(abs(sum(samples) / len(samples) - sum(predicted) / len(predicted)))
        priorities.append(sum(errors) / max(len(errors), 1))
    return total, priorities


@pytest.mark.parametrize("settings", [{}, {"double": True, "dueling": True, "n_step": 3}], ids=["paper", "combined"])
@pytest.mark.parametrize("learn", [1, 4])
@torch.no_grad()
def test_loss_and_priorities_are_the_slow_ones(settings: dict[str, Any], learn: int) -> None:
    learner = make("iqn", VECTOR, {"learn": learn}, **LEVELS, **settings)
    disturb(learner)
    for seed in range(4):
        data = batch(learner, seed=seed, ends=0.3)
        learner.noise = Noise(seed)
        draws = learner.head_noise(5)
        learner.noise = Noise(seed)
        loss, found = losses(learner, data)
        expected, priorities = slow_update(learner, data, draws)
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert found.tolist() == pytest.approx(priorities, rel=1e-3, abs=1e-5)


def test_targets_and_loss_by_hand() -> None:
    """Action 1 has the largest mean of the K levels (9 against 1 and 0), and its other two quantiles are the target.

    y = 1 + 0.5 (2, 4) = (2, 3) against Z_{.25} = 2 and Z_{.5} = 0: errors 0, 1 and 2, 3, of which Huber makes 0, .5
    and 1.5, 2.5: .25 (0 + .5) / 2 + .5 (1.5 + 2.5) / 2 = 1.0625. An end leaves y = (1, 1).
    """
    head = make("iqn", VECTOR, levels=2, target_levels=2, acting_levels=1).head
    target = torch.tensor([[0.1, 0.2, 0.3], [7.0, 7.0, 1.0], [2.0, 4.0, 9.0], [8.0, 8.0, 0.0]]).expand(1, 2, 4, 3)
    steps = NStep(torch.ones(1, 2), torch.tensor([[0.5, 0.0]]), torch.ones(1, 2, dtype=torch.int64))
    targets = head.target(Reads(target, None, None, torch.zeros(1, 2, dtype=torch.int64)), steps)
    assert targets.tolist() == [[[2.0, 3.0], [1.0, 1.0]]]
    outputs = torch.tensor([[0.25, 0.5], [9.0, 9.0], [9.0, 9.0], [2.0, 0.0]]).expand(1, 2, 4, 2)
    loss, error = head.loss(outputs, torch.full((1, 2), 2), targets)
    # At the end: Z_{.25} is 1 too high, .75 * .5, and Z_{.5} is 1 too low, .5 * .5.
    assert loss.tolist() == [[pytest.approx(1.0625), pytest.approx(0.375 + 0.25)]]
    assert error.tolist() == [[1.5, 0.0]]


def test_levels_are_drawn_for_every_row_and_network() -> None:
    """N, none and N' + K; with `double` N, K and N'. Uniform, others each time, from the learner's generator."""
    plain, double = (make("iqn", VECTOR, {"learn": 2}, double=double, **LEVELS) for double in (False, True))
    assert [draw.shape for draw in plain.head_noise(7)] == [(2, 7, 5), (2, 7, 0), (2, 7, 4 + 3)]
    assert [draw.shape for draw in double.head_noise(7)] == [(2, 7, 5), (2, 7, 3), (2, 7, 4)]
    levels = torch.cat([draw.flatten() for _ in range(400) for draw in plain.head_noise(7)])
    assert len(levels.unique()) > 0.99 * len(levels)
    assert torch.histc(levels, 4, 0.0, 1.0).div(len(levels)).tolist() == pytest.approx([0.25] * 4, abs=0.01)
    state = torch.get_rng_state()
    plain.update(batch(plain))
    assert torch.equal(torch.get_rng_state(), state)


def test_acting_is_greedy_on_the_mean_over_its_levels() -> None:
    learner = make("iqn", VECTOR, **LEVELS)
    policy, rows = learner.policy, batch(learner).rows
    assert policy.noise == 2 + 3
    row = {name: value[0] for name, value in rows.items()}
    u = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    u[:, 0] = 1.0
    action = decide(policy, row, u, "greedy").action
    means = torch.stack([quantiles(policy, rows, 0, b, u[b, 2:]).mean(-1) for b in range(5)])
    assert torch.equal(action, means.argmax(-1))


def test_with_constant_quantiles_the_target_is_dqns() -> None:
    """If no level matters (no cosine but the constant one), the bootstrap is DQN's value of the same network."""
    learner = make("iqn", VECTOR, {"learn": 3}, **LEVELS)
    parent = make("dqn", VECTOR, {"learn": 3})
    for mine, theirs in ((learner.policy, parent.policy), (learner.target, parent.target)):
        with torch.no_grad():
            mine.network.head.embed.weight.zero_()
            mine.network.head.embed.bias.fill_(1.0)
        theirs.network.torso.load_state_dict(mine.network.torso.state_dict())
        theirs.network.head.load_state_dict(mine.network.head.body.state_dict())
    data = batch(learner, ends=0.3)
    steps = learner.bellman.target_parts(data.rows, 3, learner.policy.version)
    seen = []
    for one in (learner, parent):
        outputs = one.evaluate(data, steps, {})
        seen.append(one.head.target(Reads(outputs.target, outputs.online, None, data.rows["action"][:3]), steps))
    assert torch.allclose(seen[0], seen[1].unsqueeze(-1).expand_as(seen[0]), atol=1e-6)


def test_save_and_restore_go_on_bit_for_bit() -> None:
    go_on("iqn", make("iqn", IMAGE, target_every=2, **LEVELS), env=IMAGE, target_every=2, **LEVELS)


def test_the_network_and_the_numbers_are_the_published_ones() -> None:
    atari = EnvSpec("test", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(4))
    head: Any = IQN(IQNConfig(), atari).policy().network.head
    assert head.embed.weight.shape == (3136, 64)
    assert [tuple(p.shape) for p in head.body.parameters()][::2] == [(512, 3136), (4, 512)]
    for config in (IQNConfig(), make_config("iqn", "atari").agent):
        assert (config.levels, config.target_levels, config.acting_levels, config.n_step) == (64, 64, 32, 1)
        assert (config.opt.lr, config.opt.eps, config.kappa, config.double) == (5e-5, 3.125e-4, 1.0, False)


def test_what_cannot_be_is_refused() -> None:
    for name in ("levels", "target_levels", "acting_levels", "cosines"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            IQNConfig(**{name: 0})
    with pytest.raises(ValueError, match="kappa must be positive, got 0"):
        IQNConfig(kappa=0.0)
    with pytest.raises(ValueError, match="actor_priorities need action values"):
        IQNConfig(actor_priorities=True)
    with pytest.raises(ValueError, match="loss squared is of action values"):
        IQNConfig(loss="squared")
