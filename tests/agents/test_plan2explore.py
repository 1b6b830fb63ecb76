"""Plan2Explore: losses and rewards against slow loops, who gets which gradient, who acts, and the base unchanged."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reverie.agents import find
from reverie.agents.agent import Noise, Seat
from reverie.agents.plan2explore import (
    BASES,
    ExploringLearner,
    Plan2Explore,
    Plan2ExploreConfig,
    Plan2ExploreV3Config,
    Plan2ExploreV3Of2023Config,
)
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.presets import make_config, presets_of
from reverie.presets.parts import inherited
from tests.agents.test_dreamerv2 import CONFIG, CONTINUOUS, DISCRETE, HEAD, batch
from tests.agents.v3 import THEN, warm

OWN: dict[str, Any] = {"members": 3, "ensemble": HEAD}
SETTINGS: dict[str, Any] = {
    "dreamerv2": Plan2ExploreConfig(**inherited(CONFIG, "grad_heads"), **OWN),
    "dreamerv3-2023": Plan2ExploreV3Of2023Config(**inherited(THEN, "grad_heads"), **OWN),
    "dreamerv3": Plan2ExploreV3Config(**inherited(warm(), "grad_heads"), **OWN),
}
EACH = pytest.mark.parametrize("base", SETTINGS)


def learner(base: str = "dreamerv2", env: EnvSpec = DISCRETE, **changes: Any) -> ExploringLearner:
    torch.manual_seed(0)
    recipe = Plan2Explore(replace(SETTINGS[base], **changes), env)
    made = recipe.learner(recipe.policy(), recipe.windows(SequenceSpec(learn=5)), 3)
    assert isinstance(made, ExploringLearner)
    return made


def with_gradient(agent: ExploringLearner, loss: Tensor) -> set[str]:
    agent.zero_grad()
    loss.backward(retain_graph=True)
    model = agent.model
    parts: dict[str, nn.Module] = {
        "encoder": model.encoder,
        "rssm": model.rssm,
        "reward": model.reward,
        "actor": agent.actor,
        "critic": agent.critic,
        "ensemble": agent.ensemble,
        "explorer": agent.policy.explorer,
        "explorer critic": agent.exploring.critic,
    }
    return {k for k, m in parts.items() if any(p.grad is not None and bool(p.grad.any()) for p in m.parameters())}


@pytest.mark.parametrize(("base", "predicts"), zip(SETTINGS, ["embed", "deter", "stoch"], strict=True))
def test_the_ensembles_loss_and_rewards_are_the_slow_loop(base: str, predicts: str) -> None:
    """In float64: (features of t, action that led to t + 1) -> what row t + 1 has; steps into first rows are none."""
    agent = learner(base, predicts=predicts, intrinsic_scale=2.0, intrinsic_momentum=0.9)
    data = batch(seed=4)
    assert data.rows["is_first"][1:].any()
    _, seen, rows = agent.world_model_loss(data, {})
    metrics: dict[str, Tensor] = {}
    loss, intrinsic = agent.ensemble_loss(seen, rows, metrics)
    members = [[(x.weight.double(), x.bias.double()) for x in (m.mlp.layers[0], m.out)] for m in agent.ensemble.members]
    target = {**seen.states, "embed": seen.embed}[predicts].double()
    total, news, count = 0.0, [[0.0] * 3 for _ in range(4)], 0
    for t in range(4):
        for b in range(3):
            if rows["is_first"][t + 1, b]:
                continue
            action = torch.zeros(3).double()
            action[rows["prev_action"][t + 1, b]] = 1.0
            x = torch.cat([seen.features[t, b].double(), action])
            said = [torch.nn.functional.elu(x @ a[0].T + a[1]) @ z[0].T + z[1] for a, z in members]
            total += sum(0.5 * float((mu - target[t + 1, b]).square().sum()) for mu in said)
            mean = sum(said) / 3
            news[t][b] = float(sum((mu - mean).square() for mu in said).mean() / 3)
            count += 1
    assert 0 < count < 12
    mean_new = sum(map(sum, news)) / count
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    assert metrics["intrinsic_reward"].item() == pytest.approx(mean_new, rel=1e-4)
    expected = torch.tensor(news) * 2.0 / (0.9 + 0.1 * mean_new)
    assert torch.allclose(intrinsic, expected, rtol=1e-4)


@EACH
def test_dreams_pay_for_what_was_new_on_arrival(base: str) -> None:
    agent = learner(base, intrinsic_scale=3.0)
    start = agent.policy.initial_state(2)
    rows = {"reward": torch.tensor([5.0, -1.0]), "is_terminal": torch.tensor([False, False])}
    dream = agent.exploring.imagine(start, rows)
    assert dream.reward[0].tolist() == [5.0, -1.0]
    for i in range(4):
        x = torch.cat([dream.features[i], dream.actions[i]], -1)
        said = torch.stack([member(x) for member in agent.ensemble.members])
        assert torch.allclose(dream.reward[i + 1], 3.0 * said.var(0, correction=0).mean(-1), rtol=1e-4, atol=1e-7)
    told = agent.behaviour.imagine(start, rows)
    assert torch.allclose(told.reward, agent.model.reward.mean(told.features))


@EACH
def test_an_action_that_nobody_can_take_is_no_news(base: str) -> None:
    """Beyond [-1, 1] the memory and the environment take an action for its bound, so nothing new can come of it."""
    agent = learner(base, CONTINUOUS)
    g = torch.Generator().manual_seed(0)
    actions = 3 * torch.randn(2, 4, agent.policy.actions.size, generator=g)
    features = torch.randn(3, 4, agent.model.rssm.features, generator=g)
    told = agent.intrinsic_rewards(features, actions, torch.zeros(4))
    assert torch.equal(told, agent.intrinsic_rewards(features, actions.clamp(-1.0, 1.0), torch.zeros(4)))
    within = agent.intrinsic_rewards(features, actions / 30.0, torch.zeros(4))
    assert not torch.allclose(told, within)


@EACH
@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_each_loss_trains_its_own_part_only(base: str, env: EnvSpec) -> None:
    """The reward's gradient reaches neither memory nor encoder, nor does that of any behaviour."""
    agent = learner(base, env)
    with torch.no_grad():
        for head in (agent.model.reward.head, agent.critic.head, agent.exploring.critic.head):
            head.out.weight.normal_(generator=torch.Generator().manual_seed(2))
    _, seen, rows = agent.world_model_loss(batch(env), {})
    losses = agent.model.losses(seen, rows, {})
    assert with_gradient(agent, losses["reward", "reward"]) == {"reward"}
    losses = agent.behaviour_losses(seen, rows, {})
    expected = {
        "actor": {"actor"},
        "critic": {"critic"},
        "explorer_actor": {"explorer"},
        "explorer_critic": {"explorer critic"},
        "ensemble": {"ensemble"},
    }
    expected |= (
        {"replay_critic": {"critic"}, "explorer_replay_critic": {"explorer critic"}} if base == "dreamerv3" else {}
    )
    assert {name: with_gradient(agent, loss) for name, loss in losses.items()} == expected
    informed = learner(base, env, grad_heads=("decoder", "reward", "discount"))
    with torch.no_grad():
        informed.model.reward.head.out.weight.normal_(generator=torch.Generator().manual_seed(2))
    _, seen, rows = informed.world_model_loss(batch(env), {})
    assert with_gradient(informed, informed.model.losses(seen, rows, {})["reward", "reward"]) == {
        "encoder",
        "rssm",
        "reward",
    }


@EACH
def test_other_rewards_leave_model_and_explorer_as_they_are(base: str) -> None:
    """Bit for bit, over two updates whose gradients no norm clips."""
    ones, others = learner(base), learner(base)
    for agent, factor in ((ones, 1.0), (others, -3.0)):
        for seed in range(2):
            data = batch(seed=seed)
            agent.update(replace(data, rows={**data.rows, "reward": factor * data.rows["reward"]}))
    apart = [n for n, p in ones.named_parameters() if not torch.equal(p, dict(others.named_parameters())[n])]
    assert apart
    assert all(n.startswith(("policy.actor.", "model.reward.", "critic.", "slow_critic.")) for n in apart)


def test_the_first_row_of_a_window_teaches_the_explorer_nothing() -> None:
    """Nobody knows what it was like to arrive there: other flags of that row leave its losses as they are."""
    agent = learner()
    _, seen, rows = agent.world_model_loss(batch(), {})
    losses = []
    for ended in (False, True):
        first = {**rows, "is_terminal": rows["is_terminal"].clone()}
        first["is_terminal"][0] = ended
        agent.noise.generator.manual_seed(5)
        losses.append(agent.behaviour_losses(seen, first, {}))
    assert torch.equal(losses[0]["explorer_critic"], losses[1]["explorer_critic"])
    assert not torch.equal(losses[0]["critic"], losses[1]["critic"])


@EACH
def test_the_explorer_acts_in_training_and_the_task_in_evaluation(base: str) -> None:
    agent = learner(base)
    policy, rows = agent.policy, {name: value[0] for name, value in batch().rows.items()}
    with torch.no_grad():
        policy.actor.out.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
        policy.explorer.out.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))

    def acts(play: Any) -> list[int]:
        done = policy.step(policy.initial_state(3), rows, Noise(0), Seat.alone(3, play))
        return [int(action) for action in done.action]

    assert (acts("greedy"), acts("explore")) == ([0, 0, 0], [2, 2, 2])
    policy.explores_always = True
    assert acts("greedy") == [2, 2, 2]
    assert learner(base, evaluate="explorer").policy.explores_always


@EACH
def test_the_slow_critics_of_both_follow_and_all_is_saved(base: str) -> None:
    agent, other = learner(base), learner(base)
    for seed in range(2):
        agent.update(batch(seed=seed))
    names = set(agent.save()["tensors"])
    assert {"policy.explorer.out.weight", "explorer.critic.head.out.weight", "norm.magnitude"} <= names
    assert ("explorer.range.low" in names) == (base != "dreamerv2")
    assert not torch.equal(
        agent.exploring.slow_critic.head.out.weight, learner(base).exploring.slow_critic.head.out.weight
    )
    other.restore(agent.save())
    one, two = (each.update(batch(seed=7)).metrics for each in (agent, other))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@EACH
def test_the_task_alone_is_the_base(base: str) -> None:
    """Without an explorer's losses, the losses are the base's whose heads read as these do."""
    agent = learner(base)
    blind = SETTINGS[base]
    torch.manual_seed(0)
    recipe = find(base).load()
    own = recipe.Config(**{f.name: getattr(blind, f.name) for f in fields(recipe.Config)})
    made = recipe(own, DISCRETE)
    plain = made.learner(made.policy(), SequenceSpec(learn=5), 3)
    plain.load_state_dict({n: v for n, v in agent.state_dict().items() if n in plain.state_dict()})
    results = []
    for each in (agent, plain):
        each.noise.generator.manual_seed(9)
        loss, seen, rows = each.world_model_loss(batch(), {})
        results.append({"model": loss} | each.behaviour_losses(seen, rows, {}))
    assert all(torch.equal(loss, results[0][name]) for name, loss in results[1].items())


def test_what_cannot_explore_is_one_line() -> None:
    with pytest.raises(UserError, match=r"agent\.base = .dreamerv1. cannot explore; did you mean dreamerv"):
        Plan2Explore.defaults({"base": "dreamerv1"})
    with pytest.raises(ValueError, match=r"replay\.window\.learn must be >= 3 .*got 2"):
        Plan2Explore(SETTINGS["dreamerv2"], DISCRETE).windows(SequenceSpec(learn=2))
    assert {name: base.config().base for name, base in BASES.items()} == {name: name for name in BASES}


@EACH
def test_presets_are_the_bases_and_blind(base: str) -> None:
    for name in presets_of(base):
        ours, theirs = make_config("plan2explore", name, "toy/catch", base=base), make_config(base, name, "toy/catch")
        assert (ours.replay, ours.run) == (theirs.replay, theirs.run)
        assert ours.agent.grad_heads == tuple(head for head in theirs.agent.grad_heads if head != "reward")
        assert (ours.agent.base, ours.agent.horizon) == (base, theirs.agent.horizon)
        if not name.startswith("cpu"):  # the code of DreamerV2, expl.py and configs.yaml
            assert (ours.agent.members, ours.agent.ensemble.layers, ours.agent.ensemble.units) == (10, 4, 400)
            assert (ours.agent.spread, ours.agent.intrinsic_scale, ours.agent.predicts) == ("std", 1.0, "stoch")
    if base == "dreamerv2":
        paper = make_config("plan2explore", "dmc-vision-paper")
        assert (paper.agent.members, paper.agent.ensemble.units, paper.agent.predicts) == (5, 1024, "embed")
        assert (paper.agent.intrinsic_scale, paper.run.frames) == (10_000.0, 4_000_000)
