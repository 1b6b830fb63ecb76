"""The world model's interface: what it sees, imagines and tells, and objectives other than reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from reverie.agents.dreamer import DreamerLearner
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config, DreamerV2Learner
from reverie.agents.imagination import Imagination
from reverie.agents.model_losses import loss_metrics, of
from reverie.agents.objective import Nothing, Objective
from reverie.agents.seen import Seen
from reverie.data.sequences import SequenceSpec
from reverie.errors import UserError
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head
from reverie.ops.transforms import symlog
from tests.agents.test_dreamerv2 import CONFIG, DISCRETE, HEAD, batch, learner
from tests.play.dreams import CONFIG as SMALL
from tests.play.dreams import SPEC, model, starts


def everything(time: int = 3, width: int = 2) -> dict[str, Tensor]:
    """Rows of every kind of observation, each within its space."""
    g = np.random.default_rng(0)
    rows = {
        "obs.image": g.integers(0, 256, (time, width, 8, 12, 3), np.uint8),
        "obs.vector": g.uniform(-0.1, 0.1, (time, width, 2, 2)).astype(np.float32),
        "obs.index": g.integers(0, 5, (time, width)),
        "obs.indices": g.integers(0, [2, 3], (time, width, 2)),
        "reward": g.normal(size=(time, width)).astype(np.float32),
        "is_first": np.eye(time, width, dtype=bool),
        "is_terminal": np.eye(time, width, dtype=bool)[::-1].copy(),
    }
    return {name: torch.from_numpy(value) for name, value in rows.items()}


def test_seen_is_what_the_policy_sees_and_more() -> None:
    agent = learner()
    rows = batch().rows
    u = torch.rand(5, 3, agent.policy.noise)
    action = agent.actions.encode(rows["prev_action"])
    seen = agent.model.observe(agent.model.initial_state(3), action, rows, u)
    latent = agent.model.rssm.latent
    assert torch.equal(seen.states["stoch"], latent.sample(seen.posterior, u[..., : agent.model.latent_noise]))
    assert all(torch.equal(seen.last[name], value[-1]) for name, value in seen.states.items())
    assert torch.equal(seen.prior[0], agent.model.rssm.prior(seen.states["deter"])[0])
    assert torch.equal(seen.features, torch.cat([seen.states["stoch"], seen.states["deter"]], -1))
    assert torch.equal(seen.embed, agent.model.encoder({"image": rows["obs.image"]}))
    assert torch.equal(seen.action, action)
    assert seen.apart().features.requires_grad is False
    assert seen.features.requires_grad
    # One imagined step is the prior's, and needs no observation.
    state = {name: value[0] for name, value in seen.states.items()}
    after = agent.model.imagine(state, action[1], u[1, :, : agent.model.latent_noise])
    prior = agent.model.rssm.prior(after["deter"])
    assert torch.equal(after["stoch"], latent.sample(prior, u[1, :, : agent.model.latent_noise]))


def test_a_model_is_planned_in_as_it_imagines() -> None:
    model = learner().model
    state = {name: torch.randn(value.shape) for name, value in model.initial_state(4).items()}
    imagination = Imagination(model, lambda features: 3.0 * features[:, 1])
    action, u = torch.eye(4, model.actions.size), torch.rand(4, imagination.noise)
    after, reward, discount = imagination.imagine(state, action, u)
    expected = model.imagine(state, action, u)
    features = torch.cat([expected["stoch"], expected["deter"]], -1)
    assert all(torch.equal(after[name], value) for name, value in expected.items())
    assert torch.equal(reward, model.reward.mean(features))
    assert torch.equal(discount, model.discounts(features))
    assert torch.equal(imagination.value(after), 3.0 * features[:, 1])
    assert torch.equal(Imagination(model).value(after), torch.zeros(4))


def test_only_training_moves_running_statistics() -> None:
    agent = learner(replace(CONFIG, encoder=replace(CONFIG.encoder, standardise=True)))
    rows, u = batch().rows, torch.rand(5, 3, agent.policy.noise)
    given = (agent.model.initial_state(3), agent.actions.encode(rows["prev_action"]), rows, u)
    before = {name: value.clone() for name, value in agent.model.encoder.state_dict().items()}
    agent.model.observe(*given)
    after = agent.model.encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    agent.model.observe(*given, training=True)
    assert not all(torch.equal(value, agent.model.encoder.state_dict()[name]) for name, value in before.items())


def test_what_was_prepared_can_be_told() -> None:
    """restore is the inverse of prepare, to the last bit, for every kind of observation."""
    made, rows = model(), everything()
    obs = {name.removeprefix("obs."): value for name, value in rows.items() if name.startswith("obs.")}
    restored = made.encoder.restore(made.encoder.prepare(obs))
    assert restored.keys() == obs.keys()
    for key, value in obs.items():
        assert restored[key].dtype == value.dtype, key
        assert torch.equal(restored[key], value), key


def test_a_state_is_told_in_the_environments_units() -> None:
    made = model()
    state = {name: value.unsqueeze(0) for name, value in starts(made, 4).items()}
    with torch.no_grad():
        predicted, told = made.predict(state), made.tell(state)
    assert set(told) == {"obs.image", "obs.vector", "obs.index", "obs.indices", "reward", "continuation"}
    assert (told["obs.image"].shape, told["obs.image"].dtype) == ((1, 4, 8, 12, 3), torch.uint8)
    for key, space in SPEC.observation.items():
        for each in told[f"obs.{key}"][0]:
            assert space.contains(each.numpy()) or isinstance(space, spaces.Discrete), key
    shade = (predicted.observations["image"][0, 1, 2, 3, 5].item() + 0.5) * 255
    assert told["obs.image"][0, 1, 3, 5, 2].item() == round(shade)
    assert predicted.observations["vector"].abs().max() > 0.1  # so that it has to be cut off at the space's bounds
    # The model has learned symlog(r), which has an inverse.
    torch.testing.assert_close(symlog(told["reward"]), predicted.reward)
    chance = made.discount.mean(made.rssm.feature(state)) / made.gamma
    torch.testing.assert_close(told["continuation"], chance)


@pytest.mark.parametrize(
    ("transform", "unit"), [("identity", "reward"), ("tanh", "tanh(reward)"), ("sign", "sign(reward)")]
)
def test_rewards_that_cannot_be_had_back_are_called_what_they_are(transform: str, unit: str) -> None:
    made = model(replace(SMALL, reward_transform=transform, predict_discount=False))
    state = starts(made)
    with torch.no_grad():
        told = made.tell(state)
        assert torch.equal(told[unit], made.predict(state).reward)
    assert ("reward" in told) == (unit == "reward")
    assert made.predict(state).continuation is None
    assert torch.equal(told["continuation"], torch.ones(5))


def test_truth_is_what_predictions_are_compared_with() -> None:
    made, rows = model(), everything()
    truth = made.truth(rows)
    torch.testing.assert_close(truth.reward, symlog(rows["reward"]))
    assert truth.continuation is not None
    assert torch.equal(truth.continuation == 0.0, rows["is_terminal"])
    assert torch.equal(truth.observations["image"], made.encoder.prepare({**observed(rows)})["image"])


def observed(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("obs."): value for name, value in rows.items() if name.startswith("obs.")}


class Silent(DreamerV2):
    """A Dreamer whose model says nothing about observations."""

    def objective(self, features: int) -> Objective:
        return Nothing()


class Views(Objective):
    """Two views of every row, a random brightness apart, must look the same to a projection and a slow copy of it."""

    views = 2
    noise = 1

    def __init__(self, features: int) -> None:
        super().__init__()
        self.head = Head(features, 4, HEAD)
        self.slow = deepcopy(self.head).requires_grad_(False)
        self.called: list[str] = []

    def augment(self, observations: Mapping[str, Tensor], u: Tensor) -> dict[str, Tensor]:
        # One number for the whole sequence.
        return {key: x + u[0, :, 0].view(-1, *[1] * (x.dim() - 2)) for key, x in observations.items()}

    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        one, other = self.head(seen.features).chunk(2, 1)
        theirs, ours = self.slow(seen.features).chunk(2, 1)
        assert rows["is_first"].shape == seen.features.shape[:2]
        self.inputs = seen.observations["image"].detach()
        return {"pull": F.mse_loss(one, ours) + F.mse_loss(other, theirs), "size": 0.1 * one.square().mean()}

    def reset_parameters(self) -> None:
        self.slow.load_state_dict(self.head.state_dict())

    @torch.no_grad()
    def after_update(self) -> None:
        for slow, fast in zip(self.slow.parameters(), self.head.parameters(), strict=True):
            slow.lerp_(fast, 0.5)


class TwoViews(DreamerV2):
    Learner: ClassVar[type[DreamerLearner]] = DreamerV2Learner

    def objective(self, features: int) -> Objective:
        return Views(features)


def of_kind(kind: type[DreamerV2], config: DreamerV2Config = CONFIG, **windows: object) -> DreamerLearner:
    torch.manual_seed(0)
    recipe = kind(config, DISCRETE)
    return recipe.learner(recipe.policy(), SequenceSpec(**{"learn": 5, **windows}), 3)


@pytest.mark.parametrize("balance", ["fixed", "harmony", "dwa"])
def test_a_model_that_says_nothing_weighs_what_there_is(balance: str) -> None:
    agent = of_kind(Silent, replace(CONFIG, balance=balance))
    metrics = agent.update(batch()).metrics
    assert {name for name in metrics if name.startswith("balance/")} == {
        f"balance/{group}_{what}" for group in ("reward", "dynamics") for what in ("loss", "weight", "product")
    }
    products = metrics["balance/reward_product"] + metrics["balance/dynamics_product"]
    regulariser = 2 * np.log(2.0) if balance == "harmony" else 0.0
    expected = products + 5.0 * metrics["discount_loss"] + regulariser
    assert metrics["model_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert not agent.model.objective.tells
    assert set(agent.model.tell(agent.model.initial_state(2))) == {"tanh(reward)", "continuation"}


@pytest.mark.parametrize("balance", ["fixed", "harmony"])
def test_a_loss_of_an_unknown_group_is_not_left_out_silently(balance: str) -> None:
    model = of_kind(Silent, replace(CONFIG, balance=balance)).model
    losses = {("reward", "reward"): torch.ones(()), ("dynamics", "kl"): torch.ones(())}
    model.balance(losses)
    with pytest.raises(UserError, match="the loss 'extra' is of an unknown group 'rewards': expected observation, rew"):
        model.balance({**losses, ("rewards", "extra"): torch.ones(())})


def test_an_objective_owns_views_augmentation_and_slow_copies() -> None:
    agent = of_kind(TwoViews)
    objective = agent.model.objective
    assert isinstance(objective, Views)
    pairs = list(zip(objective.slow.parameters(), objective.head.parameters(), strict=True))
    assert all(torch.equal(slow, fast) for slow, fast in pairs)  # copied after all were initialised
    before = [(slow.clone(), fast.clone()) for slow, fast in pairs]
    data = batch()
    metrics = agent.update(data).metrics
    for (slow, fast), (_, fast_before) in zip(pairs, before, strict=True):
        assert not torch.equal(fast, fast_before) or not fast.any()
        torch.testing.assert_close(slow, 0.5 * (fast_before + fast))
    # The optimiser learns no slow copies, and a checkpoint has them.
    assert not {id(p) for p in objective.slow.parameters()} & {id(p) for p in agent.optimisers["model"].parameters}
    assert "model.objective.slow.out.weight" in agent.save()["tensors"]
    # Both views are of the same rows, one brightness apart.
    one, other = objective.inputs.chunk(2, 1)
    gap = (one - other).flatten(2)
    assert gap.abs().min() > 1e-4
    assert torch.allclose(gap, gap[:1, :, :1].expand_as(gap), atol=1e-5)
    plain = agent.model.encoder.prepare({"image": data.rows["obs.image"]})["image"]
    assert torch.allclose((one - plain).flatten(2).std((0, 2)), torch.zeros(3), atol=1e-5)
    both = metrics["pull_loss"] + metrics["size_loss"]
    assert metrics["balance/observation_loss"].item() == pytest.approx(both.item(), rel=1e-6)


def test_views_stand_side_by_side_with_their_start_states() -> None:
    """A stored state and burn-in rows go with both views; the last ones are the same where nothing is random."""
    agent = of_kind(TwoViews, context=2, learn=3, state="stored")
    given = {"deter": torch.randn(3, 6), "stoch": torch.randn(3, 12)}
    data = replace(batch(), start=given)
    seen, rows = agent.see(data, {})
    assert seen.states["deter"].shape == (3, 6, 6)
    one, other = rows["reward"].chunk(2, 1)
    assert torch.equal(one, other)
    assert torch.equal(one, data.rows["reward"][2:])


@pytest.mark.parametrize("keys", [("reward", "observation/reward"), ("observation/reward", "reward")])
def test_two_losses_never_share_a_metric(keys: tuple[str, ...]) -> None:
    names = [("observation", key) for key in ("a", *keys, "model")]
    losses = {key: torch.tensor(float(i)) for i, key in enumerate([*names, ("reward", "reward")])}
    metrics = loss_metrics(losses, ["model"])
    assert sorted(value.item() for value in metrics.values()) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert metrics["reward_loss"].item() == 4.0
    assert metrics["a_loss"].item() == 0.0
    assert "model_loss" not in metrics
    assert list(of(losses, "reward")) == ["reward"]


def test_an_encoder_restores_only_what_it_is_given() -> None:
    encoder = Encoder(SPEC.observation, CONFIG.encoder)
    assert encoder.restore({}) == {}
    assert set(encoder.restore({"index": torch.eye(5)})) == {"index"}
    assert encoder.restore({"index": torch.eye(5)})["index"].tolist() == [0, 1, 2, 3, 4]
