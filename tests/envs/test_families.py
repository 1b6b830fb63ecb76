"""Environments of other packages: registered when they are asked for, and read as they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.check import check_env
from reverie.envs.families import FAMILIES
from reverie.envs.gym import make_single
from reverie.envs.make import make_env
from reverie.envs.vector import SyncVector
from reverie.errors import UserError


class Planes(gymnasium.Env):
    """Spaces as MinAtar's."""

    observation_space = spaces.Box(0, 1, (10, 10, 4), np.bool_)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros((10, 10, 4), np.bool_), {}


class Sticky(Planes):
    """Repeats the last action at times, as MinAtar's games, which it keeps from one episode to the next."""

    class Game:
        last_action = 0

    def __init__(self) -> None:
        self.game = self.Game()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        self.count = 0
        return np.zeros((10, 10, 4), np.bool_), {}

    def step(self, action: Any) -> Any:
        if self.np_random.random() < 0.5:
            action = self.game.last_action
        self.game.last_action = action
        self.count += 1
        return np.full((10, 10, 4), action, np.bool_), float(action), self.count >= 5, False, {}


def test_no_action_of_an_episode_is_repeated_in_the_next() -> None:
    gymnasium.register("MinAtar/Sticky-v1", entry_point=Sticky)
    env = make_env("MinAtar/Sticky-v1")
    assert isinstance(env, SyncVector)
    env.reset(0)
    env.envs[0].unwrapped.game.last_action = 1  # type: ignore[attr-defined]
    env.reset(0)
    assert env.envs[0].unwrapped.game.last_action == 0  # type: ignore[attr-defined]
    assert check_env("MinAtar/Sticky-v1").resume == "replay"


def test_what_goes_from_one_episode_to_the_next_is_found() -> None:
    assert check_env(Sticky, kind="image", layout="hwc").resume == "truncate"


class Partly(gymnasium.Env):
    """Spaces as MiniGrid's."""

    observation_space = spaces.Dict(
        {"direction": spaces.Discrete(4), "image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "mission": spaces.Text(9)}
    )
    action_space = spaces.Discrete(7)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.mark.parametrize(
    ("id", "made", "options", "key", "shape"),
    [
        ("MinAtar/Ours-v1", Planes, {}, "image", (10, 10, 4)),
        ("MiniGrid-Ours-v0", Partly, {"kind": {"mission": "drop"}}, "image", (7, 7, 21)),
        ("MiniGrid-Empty-Ours-v0", Partly, {}, "image", (7, 7, 21)),
        ("BabyAI-Ours-v0", Partly, {"kind": {"mission": "drop", "image": "vector"}}, "image", (147,)),
    ],
)
def test_what_published_environments_show_is_known(
    id: str, made: type, options: dict[str, Any], key: str, shape: tuple[int, ...]
) -> None:
    gymnasium.register(id, entry_point=made)
    env = make_env(id, **options)
    assert env.spec.observation[key].shape == shape
    assert "mission" not in env.spec.observation


@pytest.mark.parametrize("id", ["MiniGrid-GoToOurs-v0", "BabyAI-GoToOurs-v0"])
def test_a_mission_that_is_the_task_is_not_dropped_unasked(id: str) -> None:
    gymnasium.register(id, entry_point=Partly)
    with pytest.raises(UserError, match=r"--env\.options\.kind\.mission drop"):
        make_env(id)


def _install(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A package that is imported by that name."""
    for path in (name.partition(".")[0], name):
        module = ModuleType(path)
        module.__spec__ = type("Spec", (), {"loader": None})()  # found, as an installed package's is
        module.__path__ = []  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, path, module)
    vars(sys.modules[name]).update(members)


@pytest.mark.parametrize("id", ["MinAtar/Late-v1", "minatar:MinAtar/Late-v1"])
def test_a_package_registers_its_environments_when_one_is_asked_for(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def register_envs() -> None:
        calls.append("called")
        gymnasium.register("MinAtar/Late-v1", entry_point=Planes)

    _install(monkeypatch, "minatar.gym", register_envs=register_envs)
    assert make_env(id).spec.observation["image"].shape == (10, 10, 4)
    assert make_single(id).observation_space.shape == (10, 10, 4)
    assert calls == ["called"]  # once: what is registered is left alone


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.envs.families.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="package minigrid, which is not installed: pip install minigrid"):
        make_env("MiniGrid-Empty-8x8-v0")


def test_no_prefix_is_hidden_by_one_before_it() -> None:
    prefixes = list(FAMILIES)
    hidden = [b for i, b in enumerate(prefixes) for a in prefixes[:i] if b.startswith(a)]
    assert not hidden
