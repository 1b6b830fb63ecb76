"""Action masks: found in the observation or beside it, kept by every policy, in targets and in dreams; or asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import reverie
from reverie.agents.agent import Noise, Policy, Seat
from reverie.envs.check import check_env
from reverie.envs.env import EnvSpec
from reverie.envs.make import make_env
from reverie.envs.native import NativeVector
from reverie.envs.reading import Reading
from reverie.errors import UserError
from reverie.nets.actions import DiscreteActions, legal
from reverie.nets.q_heads import PlainQ, QHead, Reads, best
from reverie.ops.n_step import n_step
from reverie.overrides import apply
from reverie.run.build import build_agent
from tests.agents import value

HERE = __name__


class Rules(gymnasium.Env):
    """Of 4 actions only some may be taken, others at every step; the others raise. Reward 1 for each step, 5 of them.

    where: obs, info, both. closing: whether the last step has a mask too. many: actions are two factors.
    """

    def __init__(self, where: str = "obs", closing: bool = True, many: bool = False, start: int = 0) -> None:
        self.where, self.closing = where, closing
        self.factors = [3, 4] if many else [4]
        self.action_space = spaces.MultiDiscrete(self.factors) if many else spaces.Discrete(4, start=start)
        box = spaces.Box(0, 5, (1,), np.float32)
        mask = spaces.MultiBinary(sum(self.factors))
        self.observation_space = box if where == "info" else spaces.Dict({"time": box, "action_mask": mask})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.look(False)

    def step(self, action: Any) -> Any:
        parts = np.asarray(action).reshape(-1) - getattr(self.action_space, "start", 0)
        for part, mask in zip(parts, self.masks, strict=True):
            if not mask[part]:
                raise ValueError(f"illegal: {action} with {self.masks}")
        self.time += 1
        observation, info = self.look(self.time == 5)
        return observation, 1.0, self.time == 5, False, info

    def look(self, last: bool) -> Any:
        self.masks = []
        for n in self.factors:
            mask = self.np_random.random(n) < 0.4
            mask[self.np_random.integers(n)] = True
            self.masks.append(mask.astype(np.int8))
        if last and not self.closing:
            self.masks = [mask * 0 for mask in self.masks]
        flat, time = np.concatenate(self.masks), np.array([self.time], np.float32)
        beside = tuple(self.masks) if len(self.masks) > 1 else flat
        info = {} if self.where == "obs" or (last and not self.closing) else {"action_mask": beside}
        return time if self.where == "info" else {"time": time, "action_mask": flat}, info


OPTIONS = [
    {"where": "obs"},
    {"where": "obs", "closing": False},
    {"where": "info", "action_mask": "follow"},
    {"where": "info", "action_mask": "follow", "closing": False, "start": -2},
    {"where": "both", "start": 7},
    {"where": "both", "many": True},
    {"where": "info", "action_mask": "follow", "many": True},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_masks_are_an_observation_of_rows(options: dict[str, Any]) -> None:
    env = make_env(f"{HERE}:Rules", num_envs=2, **options)
    assert env.spec.action_mask
    size = 7 if options.get("many") else 4
    assert env.spec.observation["action_mask"] == spaces.Box(0, 1, (size,), np.float32)
    rng, rows = np.random.default_rng(0), env.reset(0)
    for _ in range(20):
        np.testing.assert_array_equal(
            rows["obs.action_mask"], [np.concatenate(single.masks) for single in env.envs], strict=False
        )
        parts = np.split(rows["obs.action_mask"], [3] if size == 7 else [], -1)
        action = np.stack([(rng.random(part.shape) * part).argmax(-1) for part in parts], -1)
        step = env.step(action if size == 7 else action[:, 0])
        rows = step.rows
        if step.ends is not None:
            assert step.ends["obs.action_mask"].any() == options.get("closing", True)
    assert check_env(f"{HERE}:Rules", env_steps=60, **options).ok


def test_a_mask_beside_the_observation_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"say --env.options.action_mask follow, or ignore"):
        make_env(f"{HERE}:Rules", where="info").reset(0)
    report = check_env(f"{HERE}:Rules", env_steps=60, where="info")
    assert [line for line in report.problems if "--env.options.action_mask follow" in line] == list(report.problems)
    ignored = make_env(f"{HERE}:Rules", where="both", action_mask="ignore")
    assert not ignored.spec.action_mask
    assert "obs.action_mask" in ignored.reset(0)
    assert "obs.action_mask" not in make_env(f"{HERE}:Rules", where="info", action_mask="ignore").reset(0)


def test_taxi_is_known_to_mask() -> None:
    env = make_env("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3")
    rows = env.reset(0)
    _, info = env.envs[0].unwrapped.reset(seed=1)
    assert rows["obs.action_mask"].shape == (1, *info["action_mask"].shape) == (1, 6)


class Wrong(Rules):
    def __init__(self, shape: tuple[int, ...] = (3,), box: bool = False) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"action_mask": spaces.Box(0, 1, tuple(shape), np.int8)})
        if box:
            self.action_space = spaces.Box(-1, 1, (3,))


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        ("Wrong", {}, r"observation 'action_mask' is Box.*but the actions are Discrete\(4\)"),
        (
            "Wrong",
            {"box": True},
            "observation 'action_mask' is Box.*rename it, or say --env.options.action_mask ignore",
        ),
        ("Rules", {"action_mask": "heed"}, "must be one of follow, ignore"),
    ],
)
def test_masks_that_fit_no_actions(id: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_env(f"{HERE}:{id}", **options)
    with pytest.raises(UserError, match="is for Discrete and MultiDiscrete"):
        make_env("Pendulum-v1", action_mask="follow")


def test_a_row_that_allows_nothing() -> None:
    class Nothing(Rules):
        def look(self, last: bool) -> Any:
            observation, info = super().look(last)
            self.masks = [mask * 0 for mask in self.masks]
            return observation | {"action_mask": self.masks[0]}, info

    gymnasium.register("Nothing-v0", entry_point=Nothing)
    try:
        with pytest.raises(UserError, match="allows no action"):
            make_env("Nothing-v0").reset(0)
    finally:
        del gymnasium.registry["Nothing-v0"]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("many", [False, True])
def test_vector_environments_have_them_too(mode: str, many: bool) -> None:
    made = [lambda: Rules("info", many=many)] * 2
    env = NativeVector(
        "rules", gymnasium.vector.SyncVectorEnv(made, autoreset_mode=mode), Reading(action_mask="follow")
    )
    rng, rows = np.random.default_rng(0), env.reset(0)
    for _ in range(30):
        last = rows["is_last"]
        parts = np.split(rows["obs.action_mask"], [3] if many else [], -1)
        assert all((part.any(-1) | last).all() for part in parts)
        action = np.stack([(rng.random(part.shape) * part).argmax(-1) for part in parts], -1)
        step = env.step(action if many else action[:, 0])  # raises where one is illegal
        rows = step.rows
        if step.ends is not None:
            assert step.ends["obs.action_mask"].any(-1).all()


def test_flicker_never_hides_what_is_allowed() -> None:
    env = make_env(f"{HERE}:Rules", num_envs=3, where="info", action_mask="follow", flicker=0.9, mask=[0])
    rows = env.reset(0)
    for _ in range(20):
        assert (rows["obs.action_mask"].any(-1)).all()
        assert not rows["obs.vector"].any()
        rows = env.step(rows["obs.action_mask"].argmax(-1)).rows


def spec(n: int = 4) -> EnvSpec:
    box = spaces.Box(-1, 1, (2,), np.float32)
    mask = spaces.Box(0, 1, (n,), np.float32)
    return EnvSpec("test", {"vector": box, "action_mask": mask}, spaces.Discrete(n), action_mask=True)


VALUES = ["dqn", "drqn", "r2d2", "rainbow", "iqn"]


def policy_of(agent: str, env: EnvSpec) -> tuple[Any, Policy]:
    config = reverie.make_config(agent, "cpu", f"{HERE}:Rules")
    recipe = build_agent(config, env)
    torch.manual_seed(0)
    return recipe, recipe.policy()


ACTORS = ["a2c", "impala", "dreamerv2", "harmonydream", "dreamerv1", "dreamerv3", "dreamerv3-2023"]


@pytest.mark.parametrize("agent", [*VALUES, *ACTORS])
@pytest.mark.parametrize("play", ["random", "explore", "greedy"])
def test_no_policy_takes_what_is_forbidden(agent: str, play: Any) -> None:
    _, policy = policy_of(agent, spec())
    rng, noise, counts = np.random.default_rng(0), Noise(0), np.zeros(4)
    state = policy.initial_state(64)
    for step in range(12):
        mask = rng.random((64, 4)) < 0.4
        mask[np.arange(64), rng.integers(0, 4, 64)] = True
        rows = {
            "obs.vector": torch.randn(64, 2),
            "obs.action_mask": torch.from_numpy(mask).float(),
            "is_first": torch.full((64,), step == 0),
            "prev_action": torch.zeros(64, dtype=torch.int64),
            "reward": torch.zeros(64),
        }
        decision = policy.step(state, rows, noise, Seat.alone(64, play, 0))
        state = decision.state
        assert mask[np.arange(64), decision.action.numpy()].all()
        counts += np.bincount(decision.action.numpy(), minlength=4)
    if play == "random":
        assert counts.min() / counts.sum() > 0.2, counts


def test_random_actions_are_uniform_among_the_allowed() -> None:
    """u in [0, 1) falls into equal parts: of 3 allowed among 5, thirds; the largest u below 1 takes the last."""
    _, policy = policy_of("dqn", spec(5))
    mask = torch.tensor([[0.0, 1.0, 0.0, 1.0, 1.0]]).expand(7, 5)
    u = torch.tensor([0.0, 0.3333, 0.3334, 0.5, 0.6666, 0.6667, 1 - 2**-24])
    assert policy.random(u, mask).tolist() == [1, 1, 3, 3, 3, 4, 4]
    assert policy.random(u, torch.ones(7, 5)).tolist() == policy.random(u, None).tolist()


def test_the_best_of_the_allowed() -> None:
    q = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    mask = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert best(q, mask).tolist() == [2, 1, 0]
    assert legal(mask).tolist() == [[False, True, True], [False, True, False], [True, True, True]]


def test_targets_bootstrap_from_allowed_actions() -> None:
    """r + gamma max over the allowed: 1 + 0.5 * 2 where the best, 8, is forbidden; Double takes the chooser's."""
    head = PlainQ(2, 3, 0)
    parts = n_step(torch.ones(2, 1), torch.zeros(2, 1).bool(), torch.zeros(2, 1).bool(), 0.5, 1, 1)
    target, online = torch.tensor([[[8.0, 2.0, -4.0]]]), torch.tensor([[[8.0, 2.0, 5.0]]])
    mask, action = torch.tensor([[[0.0, 1.0, 1.0]]]), torch.zeros(1, 1, dtype=torch.int64)
    assert head.target(Reads(target, None, None, action, mask), parts).item() == 2.0
    assert head.target(Reads(target, online, None, action, mask), parts).item() == -1.0
    assert head.target(Reads(target, None, None, action), parts).item() == 5.0


@pytest.mark.parametrize("agent", VALUES)
@pytest.mark.parametrize("double", [False, True])
def test_what_is_forbidden_is_in_no_target(agent: str, double: bool) -> None:
    """Poison: the outputs of forbidden actions at the rows bootstrapped from are made the best; targets stay."""
    space = EnvSpec(
        "test",
        {"vector": spaces.Box(-1, 1, (4,), np.float32), "action_mask": spaces.Box(0, 1, (3,), np.float32)},
        spaces.Discrete(3),
        action_mask=True,
    )
    learner = value.make(agent, space, {"learn": 4}, double=double)
    value.disturb(learner)
    data = value.batch(learner, width=8)
    mask = torch.rand(*data.rows["reward"].shape, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[..., 1] |= ~mask.any(-1)
    data.rows["obs.action_mask"] = mask.float()
    compared = []
    inner = learner.head.target

    def poisoned(x: Tensor | None, forbidden: Tensor) -> Tensor | None:
        if x is None:
            return None
        if agent == "iqn":  # levels, then a line for each action
            return torch.cat([x[..., :1, :], torch.where(forbidden.unsqueeze(-1), 1e6, x[..., 1:, :])], -2)
        if agent == "rainbow":  # all probability on the largest return
            return x + forbidden.unsqueeze(-1) * torch.linspace(0, 100, x.shape[-1])
        return torch.where(forbidden, 1e6, x)

    def target(reads: Reads, parts: Any) -> Tensor:
        assert reads.mask is not None
        forbidden = reads.mask < 0.5
        bad = replace(reads, target=poisoned(reads.target, forbidden), online=poisoned(reads.online, forbidden))
        compared.append((inner(reads, parts), inner(bad, parts), inner(replace(bad, mask=None), parts)))
        return compared[-1][0]

    learner.head.target = target
    value.losses(learner, data)
    ((clean, bad, unmasked),) = compared
    assert torch.equal(clean, bad)
    assert not torch.equal(clean, unmasked)


class Deaf(PlainQ):
    """A head whose target knows no masks."""

    def target(self, reads: Reads, parts: Any) -> Tensor:
        return parts.earned


def test_agents_that_cannot_are_refused_in_one_line(tmp_path: Path) -> None:
    assert (QHead.heeds_masks, PlainQ.heeds_masks, Deaf.heeds_masks) == (True, True, False)
    env = make_env(f"{HERE}:Rules")
    for agent, words in (
        ("tests.third_party.actor_critic:ActorCritic", "does not heed action masks, which .*Rules gives"),
        ("tests.third_party.munchausen:MunchausenDQN", "MunchausenQ does not heed action masks"),
    ):
        config = reverie.make_config(agent, None, f"{HERE}:Rules")
        with pytest.raises(UserError, match=words) as error:
            build_agent(config, env.spec).policy()
        assert "--env.options.action_mask ignore" in str(error.value)
        build_agent(config, replace(env.spec, action_mask=False)).policy()


def test_masked_outputs_are_a_distribution_of_what_is_allowed() -> None:
    """With unimix and in two factors: probabilities by hand."""
    actions = DiscreteActions([2, 3], False, unimix=0.25)
    x = torch.zeros(1, 5)
    out = actions.masked(x, torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0]]))
    u = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    drawn = actions.decode(actions.sample(out.expand(2000, 5), u))
    assert set(drawn[:, 0].tolist()) == {0}
    assert set(drawn[:, 1].tolist()) == {0, 2}
    assert abs((drawn[:, 1] == 0).float().mean() - 0.5) < 0.04
    assert torch.allclose(actions.log_prob(out, actions.encode(torch.tensor([[0, 2]]))), torch.tensor(0.5).log())
    assert torch.allclose(actions.entropy(out), torch.tensor(2.0).log())


@pytest.mark.parametrize("actor_grad", ["reinforce", "dynamics"])
def test_dreams_keep_to_the_mask_that_the_model_tells(actor_grad: str) -> None:
    """A model that says that action 2 alone is allowed: every dreamed action is 2, and losses stay finite."""
    config = reverie.make_config("dreamerv2", "cpu", f"{HERE}:Rules")
    config = apply(config, {"agent.actor_grad": actor_grad})
    recipe = build_agent(config, spec())
    torch.manual_seed(0)
    windows = recipe.windows(config.replay.window.asked())
    learner = recipe.learner(recipe.policy(), windows)
    decoder = learner.model.objective.decoder
    head = decoder.heads[list(decoder.vectors).index("action_mask")]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.1, 0.4, 0.9, 0.0]))
    start = learner.policy.initial_state(6)
    with learner.behaviour.dreaming():
        _, actions, outputs = learner.behaviour.dream(start)
    assert (actions.argmax(-1) == 2).all()
    assert torch.isfinite(learner.actions.entropy(outputs)).all()
    assert torch.isfinite(learner.actions.log_prob(outputs, actions)).all()


@pytest.mark.parametrize("agent", ["dqn", "r2d2", "impala", "dreamerv2"])
@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[3]])
def test_a_run_keeps_the_rules_to_its_end_and_after_it(agent: str, options: Mapping[str, Any], tmp_path: Path) -> None:
    config = reverie.make_config(agent, "cpu", f"{HERE}:Rules", options=dict(options))
    keys = {"run.env_steps": 120, "run.prefill": 60, "run.eval_episodes": 2, "env.num_envs": 1}
    keys |= {"replay.batch": 4} if agent == "impala" else {}  # whose windows are drawn once
    keys |= {"run.pretrain": 2, "run.train_ratio": 16.0} if agent == "dreamerv2" else {}
    reverie.train(apply(config, keys), tmp_path / "run")
    assert reverie.evaluate(tmp_path / "run", episodes=2)["scores"] == [5.0, 5.0]
    policy, env = reverie.load(tmp_path / "run"), reverie.make_single(tmp_path / "run")
    obs, info = env.reset(seed=0)
    state, over = policy.initial_state(1), False
    while not over:
        action, state = policy.act(obs, state, info=info)
        obs, _, over, _, info = env.step(action)
    if options["where"] == "info":
        with pytest.raises(UserError, match="pass info=info"):
            policy.act(obs, state)
