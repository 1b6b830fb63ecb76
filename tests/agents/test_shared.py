"""Several learners that share batches learn what one learns: gradients, statistics, parameters, feedback, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from gymnasium import spaces

from reverie.agents import AGENTS, find
from reverie.agents.harmonydream import BASES, HarmonyDream, HarmonyDreamConfig
from reverie.data.sequences import Batch, Feedback, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.torsos import TorsoConfig
from reverie.ops import world
from tests.agents import (
    actor_critics,
    test_apex_dpg,
    test_denoised,
    test_dreamerv1,
    test_dreamerv2,
    test_plan2explore,
    test_planet,
    test_repo,
    test_tdmpc,
    test_tdmpc2,
    v3,
    value,
)
from tests.agents.shared import Gradients, Rings, assert_same, copies, doubled, in_float64

WIDTH, PARTS, STEPS = 6, 2, 2
TOLERANCE = 1e-12
STANDARD = TorsoConfig(channels=(3, 4, 4), layers=1, units=8, standardise=True)


@pytest.fixture(scope="module")
def rings() -> Iterator[Rings]:
    rings = Rings(PARTS)
    yield rings
    rings.close()


@dataclass(frozen=True)
class Case:
    """make: a learner. batch: of a learner, from a seed."""

    make: Callable[[], Any]
    batch: Callable[[Any, int], Batch]


def actor_critic(agent: str, env: EnvSpec = actor_critics.VECTOR, **changes: Any) -> Case:
    return Case(
        lambda: actor_critics.make(agent, env, **changes),
        lambda learner, seed: actor_critics.batch(learner, WIDTH, seed, ends=0.3),
    )


def of_values(agent: str, env: EnvSpec = value.VECTOR, spec: dict[str, Any] | None = None, **changes: Any) -> Case:
    return Case(
        lambda: value.make(agent, env, spec or {"learn": 3}, **changes),
        lambda learner, seed: value.batch(learner, WIDTH, seed, ends=0.3),
    )


def with_tasks(data: Batch) -> Batch:
    """Windows of two tasks, more of the first in the first half."""
    task = torch.tensor([0, 0, 0, 1, 0, 1]).expand(data.rows["reward"].shape)
    return replace(data, rows={**data.rows, "obs.task": task})


def tasks(**changes: Any) -> Case:
    env = EnvSpec(
        "two", {**actor_critics.ENTRIES, "task": spaces.Discrete(2)}, spaces.Discrete(3), tasks=("one", "two")
    )
    case = actor_critic("impala", env, popart=True, popart_step=0.1, **changes)
    return replace(case, batch=lambda learner, seed: with_tasks(actor_critics.batch(learner, WIDTH, seed, 0.3)))


def dreamer(make: Callable[[], Any], env: EnvSpec) -> Case:
    return Case(make, lambda learner, seed: test_dreamerv2.batch(env, 5, WIDTH, seed))


def harmony() -> Any:
    torch.manual_seed(0)
    base = test_dreamerv2.CONFIG
    kept = {name: getattr(base, name) for name in ("encoder", "decoder", "rssm", "reward", "discount", "actor")}
    agent = HarmonyDream(HarmonyDreamConfig(**kept, critic=base.critic, horizon=4), test_dreamerv2.DISCRETE)
    return agent.learner(agent.policy(), SequenceSpec(learn=5), 3)


def v2(**changes: Any) -> Callable[[], Any]:
    return lambda: test_dreamerv2.learner(replace(test_dreamerv2.CONFIG, **changes))


def stored(make: Callable[[], Any], env: EnvSpec) -> Case:
    """Windows that begin from states that were stored, which come back refreshed."""

    def batch(learner: Any, seed: int) -> Batch:
        g = torch.Generator().manual_seed(seed)
        start = {name: torch.randn(x.shape, generator=g) for name, x in learner.policy.initial_state(WIDTH).items()}
        return replace(test_dreamerv2.batch(env, 5, WIDTH, seed), start=start)

    return Case(make, batch)


def planner(make: Callable[[], Any]) -> Case:
    return Case(make, lambda learner, seed: test_tdmpc2.batch(learner, WIDTH, seed))


def ranging() -> Any:
    """A TD-MPC2 whose values, however small, have a range."""
    learner = test_tdmpc2.disturb(test_tdmpc2.make(replace(test_tdmpc2.CONFIG, episodic=True)))
    learner.range.floor = 1e-3
    return learner


STORED = {"context": 4, "learn": 8, "period": 4, "state": "stored", "drift": True}
DISCRETE, CONTINUOUS = test_dreamerv2.DISCRETE, test_dreamerv2.CONTINUOUS
CASES = {
    "a2c": actor_critic("a2c"),
    "a2c: a memory": actor_critic("a2c", core="lstm", state="stored", feed=True, lam=0.9),
    "a2c: continuous": actor_critic("a2c", actor_critics.CONTINUOUS),
    "impala": actor_critic("impala", average="sum", core="lstm"),
    "impala: popart": actor_critic("impala", popart=True, popart_step=0.1, average="mean"),
    "impala: tasks": tasks(),
    "impala: standardise": actor_critic("impala", torso=STANDARD),
    "dqn": of_values("dqn", double=True, n_step=2, target_every=2),
    "dqn: images": of_values("dqn", value.IMAGE),
    "rainbow": of_values("rainbow", atoms=7),
    "iqn": of_values("iqn", levels=4, target_levels=5, acting_levels=3, cosines=4),
    "apex": of_values("apex"),
    "drqn": of_values("drqn", units=5),
    "drqn: episodes": of_values("drqn", units=5, whole_episodes=True, stack=1),
    "r2d2": of_values("r2d2", spec=STORED, units=5, n_step=3),
    "apex-dpg": Case(
        lambda: test_apex_dpg.make(spec={"learn": 3}), lambda agent, seed: test_apex_dpg.batch(agent, WIDTH, seed)
    ),
    "planet": dreamer(
        lambda: test_planet.learner(replace(test_planet.CONFIG, overshooting=2, kl_scale=1.0)), test_planet.IMAGES
    ),
    "tdmpc": planner(test_tdmpc.make),
    "tdmpc2": planner(ranging),
    "tdmpc2: images": planner(lambda: test_tdmpc2.make(env=test_tdmpc2.IMAGE)),
    "repo": dreamer(test_repo.learner, DISCRETE),
    "denoised": dreamer(lambda: test_denoised.learner(env=CONTINUOUS), CONTINUOUS),
    "plan2explore": dreamer(lambda: test_plan2explore.learner(intrinsic_momentum=0.5), DISCRETE),
    "dreamerv1": dreamer(lambda: test_dreamerv1.learner(env=CONTINUOUS), CONTINUOUS),
    "dreamerv2": dreamer(v2(), DISCRETE),
    "dreamerv2: below free nats": dreamer(v2(kl_free=50.0, balance="dwa"), DISCRETE),
    "dreamerv2: above free nats": dreamer(v2(kl_free=0.01, balance="harmony-closed"), DISCRETE),
    "dreamerv2: continuous": dreamer(lambda: test_dreamerv2.learner(env=CONTINUOUS), CONTINUOUS),
    "harmonydream": dreamer(harmony, DISCRETE),
    "dreamerv3-2023": dreamer(lambda: v3.then(DISCRETE), DISCRETE),
    "dreamerv3": stored(lambda: v3.now(v3.MIXED, v3.warm(), state="stored", period=2), v3.MIXED),
}


def together(rings: Rings, case: Case) -> tuple[Any, list[Any], list[Batch]]:
    """One learner, as many that begin from its state as there are parts, and batches for them."""
    alone = case.make()
    several = copies(alone, case.make, rings.size)
    for learner in (alone, *several):
        learner.precision = torch.float32
    return alone, several, [doubled(case.batch(alone, seed)) for seed in range(STEPS)]


def compare(rings: Rings, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise AssertionError unless several learners learn what one does, in float64, up to rounding.

    Gradients of every update, metrics, feedback; then all that would be saved: moments, statistics, generators.
    """
    with in_float64(monkeypatch):
        alone, several, batches = together(rings, case)
        noted = [Gradients(learner) for learner in (alone, *several)]
        ends = [data.rows["is_last"].sum(0).split(WIDTH // PARTS) for data in batches]
        assert any(first.sum() != second.sum() for first, second in ends)
        for data in batches:
            one, other = alone.update(data), rings.update(several, data)
            assert one.metrics.keys() == other.metrics.keys()
            for name, number in one.metrics.items():
                torch.testing.assert_close(other.metrics[name], number, rtol=1e-7, atol=1e-7, check_dtype=False)
            same_feedback(one.feedback, other.feedback)
        for (group, expected), *others in zip(*(note.seen for note in noted), strict=True):
            size = float(expected.abs().max())
            assert size > 0
            for of, grads in others:
                assert of == group
                torch.testing.assert_close(grads, expected, rtol=0, atol=TOLERANCE * size)
        assert_same(several[0].save(), several[1].save(), 0.0)
        assert_same(alone.save(), several[0].save(), 1e-7)  # steps of rules that divide by small gradients round more


def same_feedback(one: Feedback | None, other: Feedback | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    assert torch.equal(one.keys, other.keys)
    assert (one.priorities is None) == (other.priorities is None)
    assert (one.states or {}).keys() == (other.states or {}).keys()
    if one.priorities is not None and other.priorities is not None:
        torch.testing.assert_close(other.priorities, one.priorities, rtol=1e-9, atol=1e-9)
    for name, x in (one.states or {}).items():
        torch.testing.assert_close((other.states or {})[name], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_what_several_learn_is_what_one_learns(rings: Rings, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(rings, CASES[name], monkeypatch)


ALONE: dict[str, Callable[..., Any]] = {
    "total": lambda x: x * PARTS,
    "minimum": lambda x: x,
    "gathered": lambda x: x.flatten(),
    "draw": lambda uniform, *shape, axis: uniform(*shape),
    "summed": lambda x: x,
    "average_": lambda tensors: None,
}
"""What each function would give if every part were taken for all there is."""


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("a2c", "total"),
        ("impala", "average_"),
        ("impala", "summed"),
        ("impala: popart", "total"),
        ("impala: standardise", "total"),
        ("drqn", "total"),
        ("r2d2", "minimum"),
        ("tdmpc", "draw"),
        ("tdmpc2", "gathered"),
        ("dreamerv2", "draw"),
        ("dreamerv2: above free nats", "total"),
        ("dreamerv3", "gathered"),
    ],
)
def test_without_the_whole_batch_it_is_not(
    rings: Rings, name: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: counts, statistics, gradients and noise of parts are others."""
    monkeypatch.setattr(world, function, ALONE[function])
    with pytest.raises(AssertionError, match=r"not close|not equal|Mismatched"):
        compare(rings, CASES[name], monkeypatch)


def test_who_can_share_says_so_and_is_tried_here() -> None:
    """Each class for itself: a child has other losses. HarmonyDream can where its base can."""
    able = {name for name, entry in AGENTS.items() if vars(entry.load()).get("learners")}
    assert able == {name.partition(":")[0] for name in CASES}
    kind = find("dqn").load()

    class Child(kind):  # type: ignore[misc, valid-type]
        pass

    env = value.VECTOR
    assert kind(kind.Config(), env).unshared() == ""
    assert "not known to learn the same" in Child(kind.Config(), env).unshared()
    assert "not known" in actor_critics.recipe("a3c").unshared()
    bases = {name: HarmonyDream(base.config(), DISCRETE).unshared() == "" for name, base in BASES.items()}
    assert bases == {name: name in able for name in BASES}
    settings = replace(test_dreamerv2.CONFIG, balance="nashmtl")
    assert "nashmtl" in find("dreamerv2").load()(settings, DISCRETE).unshared()
