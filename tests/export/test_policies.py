"""Every agent's policy outside of the library: 200 env_steps of three streams, the same actions and states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reverie.agents import AGENTS
from reverie.agents.agent import Decision, Tape
from reverie.export.graphs import STATE, Parts, PolicyGraph
from reverie.export.trace import Session, trace
from reverie.play.load import LoadedPolicy
from tests.export.tiny import Streams, tiny

CLOSE = 1e-4
DICE = {"agent__explore__evaluation": 0.3}
EACH: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("toy/catch", {"agent__stack": 3, **DICE}),
    "rainbow": ("CartPole-v1", {"agent__torso__standardise": True, **DICE}),
    "iqn": ("toy/catch", DICE),
    "apex": ("toy/catch", DICE),
    "apex-dpg": ("Pendulum-v1", {"agent__actor_units": [8], "agent__critic_units": [8]}),
    "drqn": ("toy/catch", {"agent__core": "gru", "agent__stack": 2, **DICE}),
    "r2d2": ("CartPole-v1", DICE),
    "a2c": ("Pendulum-v1", {}),
    "a3c": ("CartPole-v1", {"agent__core": "lstm", "agent__evaluation": "sample"}),
    "impala": ("toy/catch", {"agent__core": "lstm", "agent__evaluation": "sample"}),
    "planet": ("Pendulum-v1", {}),
    "tdmpc": (
        "Pendulum-v1",
        {"agent__encoder_units": 8, "agent__latent": 4, "agent__plan__policy_candidates": 3},
    ),
    "tdmpc2": (
        "Pendulum-v1",
        {
            "agent__size__encoder_units": 8,
            "agent__size__latent": 16,
            "agent__size__critics": 3,
            "agent__plan__policy_candidates": 3,
            "agent__episodic": True,
        },
    ),
    "dreamerv1": ("Pendulum-v1", {}),
    "dreamerv2": ("toy/catch", {"agent__encoder__standardise": True, "spread": 0.5}),
    "dreamerv3-2023": ("toy/catch", {}),
    "dreamerv3": ("Pendulum-v1", {}),
    "dreamerpro": ("toy/catch", {"spread": 0.5}),
    "repo": ("Pendulum-v1", {}),
    "denoised": (
        "Pendulum-v1",
        # What it reads of z has passed no gate: with larger weights it grows until float32 has no digits left.
        {"spread": 0.1, **{f"agent__{c}__{key}": n for c in "yz" for key, n in (("deter", 4), ("stoch", 2))}},
    ),
    "r2dreamer": ("toy/catch", {}),
    "harmonydream": ("toy/catch", {"spread": 0.5}),
    "plan2explore": ("toy/catch", {"spread": 0.5, "agent__ensemble__units": 8}),
}
"""An environment and settings for each agent: stacks, memories, normalisers, fed rewards and actions of all kinds."""


def differences(
    parts: Parts, answers: dict[str, Any], steps: int, streams: int = 3, length: int = 23
) -> tuple[dict[str, float], set[Any]]:
    """The largest difference of each answer from the library's over an episode, and the actions that were taken."""
    world = Streams(parts, streams, length)
    policy = LoadedPolicy(parts.policy, parts.spec, parts.env_steps, adapter=parts.adapter)
    told: dict[str, torch.Tensor] = {}

    def step(*words: Any) -> Decision:
        decision = type(parts.policy).step(parts.policy, *words)
        told.update(decision.extras)
        return decision

    parts.policy.step = step  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(1)
    ours = policy.initial_state(streams)
    start = {STATE + name: value.numpy() for name, value in ours.items() if name != "is_first"}
    theirs = {name: dict(start) for name in answers}
    worst, done = dict.fromkeys(answers, 0.0), set()
    for _ in range(steps):
        given = world.given()
        u = torch.rand(streams, parts.policy.noise, generator=generator)
        policy.noise = Tape(u)
        seen = {part.key: given[f"obs.{part.key}"] for part in parts.adapter.observation.parts}
        ours["is_first"] = torch.zeros(streams, dtype=torch.bool)
        first = torch.from_numpy(given["is_first"])
        action, ours = policy.act(_nested(world, seen), ours, reward=given["reward"], is_first=first, info=given)
        for name, answer in answers.items():
            found = answer({**given, **theirs[name], "noise": u.numpy()})
            theirs[name] = {STATE + key[5:]: value for key, value in found.items() if key.startswith("next.")}
            assert found["action"].dtype == np.asarray(action).dtype
            assert found["action"].shape == np.asarray(action).shape
            pairs = [(found["action"], action), *((found[key], value.numpy()) for key, value in told.items())]
            pairs += [(theirs[name][STATE + key], value.numpy()) for key, value in ours.items() if key != "is_first"]
            worst[name] = max([worst[name], *(apart(mine, other) for mine, other in pairs)])
        done |= {tuple(np.ravel(each).tolist()) for each in np.asarray(action)}
        world.step(np.asarray(action))
    return worst, done


def apart(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def _nested(world: Streams, seen: dict[str, np.ndarray]) -> Any:
    """Observations of all streams as a vector environment has them."""
    nested: Any = {}
    for part in world.parts:
        if not part.path:
            return seen[part.key]
        at = nested
        for name in part.path[:-1]:
            at = at.setdefault(name, {})
        at[part.path[-1]] = seen[part.key]
    return nested


def loaded(path: Path) -> Any:
    module = torch.export.load(path).module()

    def answer(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {k: v.numpy() for k, v in module({k: torch.from_numpy(v) for k, v in given.items()}).items()}

    return answer


def test_every_agent_is_here() -> None:
    assert set(EACH) == set(AGENTS)


@pytest.mark.parametrize("agent", list(EACH))
def test_an_episode_is_the_same_outside(agent: str, tmp_path: Path) -> None:
    env, changes = EACH[agent]
    parts = tiny(agent, env, **changes)
    graph = PolicyGraph(parts.policy, parts.spec, parts.adapter, parts.env_steps)
    traced = trace("policy", graph)
    traced.save_onnx(tmp_path / "policy.onnx")
    traced.save_torch(tmp_path / "policy.pt2")
    session = Session(tmp_path / "policy.onnx")
    assert session.inputs == [port.name for port in graph.inputs]
    assert session.outputs == [port.name for port in traced.outputs]
    answers = {"onnx": session, "torch": loaded(tmp_path / "policy.pt2")}
    worst, done = differences(parts, answers, 200)
    assert max(worst.values()) < CLOSE, worst
    assert len(done) > 1
