"""What partial observability hides: rows beside the same environment in full view, draws by hand, slips in one line."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.data.rows import Rows
from reverie.envs.catch import Catch
from reverie.envs.check import check_env
from reverie.envs.env import Step, VectorEnv
from reverie.envs.make import env_names, make_env
from reverie.errors import UserError

HERE = __name__


def beside(id: str, num_envs: int, env_steps: int, seed: int = 0, **hide: Any) -> list[list[tuple[Rows, Rows]]]:
    """Per stream, its rows in time as (full view, partial view) under the same actions."""
    full, partial = make_env(id, num_envs=num_envs), make_env(id, num_envs=num_envs, **hide)
    out: list[list[tuple[Rows, Rows]]] = [[] for _ in range(num_envs)]

    def put(a: Rows, b: Rows, streams: Any) -> None:
        for at, i in enumerate(streams):
            out[i].append(({k: v[at] for k, v in a.items()}, {k: v[at] for k, v in b.items()}))

    put(full.reset(seed), partial.reset(seed), range(num_envs))
    rng = np.random.default_rng(1)
    for _ in range(env_steps):
        action = rng.integers(0, int(full.spec.action.n), num_envs)
        a, b = full.step(action), partial.step(action)
        if a.ends is not None and b.ends is not None and a.streams is not None:
            put(a.ends, b.ends, a.streams)
        put(a.rows, b.rows, range(num_envs))
    return out


def test_flicker_hides_whole_rows_as_often_as_it_says_and_nothing_else() -> None:
    dark: dict[str, list[bool]] = {"is_first": [], "is_last": [], "between": []}
    for stream in beside("toy/catch", 8, 1000, flicker=0.3):
        for full, seen in stream:
            for name in full:
                if name != "obs.image":
                    assert seen[name] == full[name]
            hidden = not seen["obs.image"].any()
            # Catch always shows ball and paddle, so a black image is a hidden one.
            assert hidden or (seen["obs.image"] == full["obs.image"]).all()
            dark["is_first" if full["is_first"] else "is_last" if full["is_last"] else "between"].append(hidden)
    for kind, hidden in dark.items():
        assert np.mean(hidden) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(hidden))), kind
        assert len(hidden) > 1000


def test_draws_are_a_function_of_seed_stream_and_row_whatever_lies_beneath() -> None:
    for id in ("toy/catch", "toy/count"):
        for i, stream in enumerate(beside(id, 3, 40, seed=5, flicker=0.5)):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5, spawn_key=(i, 0, 0))))
            expected = [rng.random() < 0.5 for _ in stream]
            key = "obs.image" if id == "toy/catch" else "obs.vector"
            # The first row of toy/count is zero anyway in episode 0.
            hidden = [not seen[key].any() for _, seen in stream]
            shows = [bool(full[key].any()) for full, _ in stream]
            assert [h for h, s in zip(hidden, shows, strict=True) if s] == [
                e for e, s in zip(expected, shows, strict=True) if s
            ]


@pytest.mark.parametrize("hide", [{"mask": [1, 3]}, {"mask": {"vector": [3, 1, 1]}}])
def test_cartpole_without_velocities(hide: dict[str, Any]) -> None:
    for stream in beside("CartPole-v1", 2, 60, **hide):
        for full, seen in stream:
            assert (seen["obs.vector"][[1, 3]] == 0).all()
            np.testing.assert_array_equal(seen["obs.vector"][[0, 2]], full["obs.vector"][[0, 2]])
        assert any(full["obs.vector"][[1, 3]].all() for full, _ in stream)
    env = make_env("CartPole-v1", **hide)
    assert env.spec.flags == {"flicker": 0.0, "mask": {"vector": [1, 3]}}
    assert env.spec.observation["vector"].high.tolist()[1::2] == [0.0, 0.0]


def test_specs_say_what_is_hidden() -> None:
    env = make_env("toy/catch", cells=11, size=33, flicker=0.5)
    assert env.spec.flags == {"size": 33, "cells": 11, "ball": None, "continuous": False, "flicker": 0.5, "mask": {}}
    assert env.spec.random_score == pytest.approx(2 / 11 - 1)
    assert env.spec.optimal_score is None
    assert env.spec.observation == {"image": spaces.Box(0, 255, (33, 33, 1), np.uint8)}
    assert type(make_env("toy/catch", flicker=0.0)) is type(make_env("toy/catch"))


class Far(gymnasium.Env[Any, Any]):
    """A vector that is never near 0, beside an image and a second vector."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (16, 16, 1), np.uint8),
            "position": spaces.Box(5.0, 6.0, (2,), np.float32),
            "velocity": spaces.Box(-2.0, -1.0, (3,), np.float32),
        }
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.look(), 1.0, bool(self.np_random.integers(5) == 0), False, {}

    def look(self) -> dict[str, Any]:
        draw = self.np_random.uniform
        image = np.full((16, 16, 1), self.np_random.integers(1, 256), np.uint8)
        return {"image": image, "position": draw(5, 6, 2).astype("f"), "velocity": draw(-2, -1, 3).astype("f")}


class FarAndIndex(Far):
    """`Far` with an index, of which 0 is a value."""

    observation_space = spaces.Dict({**Far.observation_space.spaces, "room": spaces.Discrete(3)})


def test_a_dark_row_hides_every_key_at_once_and_fits_its_space() -> None:
    env = make_env(f"{HERE}:Far", num_envs=4, flicker=0.5, mask={"velocity": [0]})
    rows, seen = env.reset(0), []
    for _ in range(100):
        for i in range(4):
            dark = {key: not rows["obs." + key][i].any() for key in env.spec.observation}
            assert len(set(dark.values())) == 1
            assert rows["obs.velocity"][i, 0] == 0.0
            seen.append(dark["image"])
            for key, space in env.spec.observation.items():
                assert space.contains(rows["obs." + key][i]), key
        rows = env.step(np.zeros(4, np.int64)).rows
    assert 0.4 < np.mean(seen) < 0.6
    assert env.spec.observation["velocity"].low.tolist() == [0.0, -2.0, -2.0]
    assert env.spec.observation["position"].low.tolist() == [0.0, 0.0]


class Reusing(VectorEnv):
    """Gives the same array every time, as a source of one's own may."""

    def __init__(self, num_envs: int) -> None:
        self.env = make_env("toy/count", num_envs=num_envs)
        self.spec, self.num_envs = self.env.spec, num_envs

    def reset(self, seed: int) -> Rows:
        self.rows = self.env.reset(seed)
        return self.rows

    def step(self, action: np.ndarray) -> Step:
        self.rows["obs.vector"] += 1
        return Step(self.rows)


def test_the_rows_of_the_source_are_left_alone() -> None:
    for hide in ({"flicker": 0.9}, {"mask": [0]}):
        env = make_env(f"{HERE}:Reusing", num_envs=2, **hide)
        env.reset(0)
        for _ in range(9):
            env.step(np.zeros(2, np.int64))
        assert env.env.rows["obs.vector"][:, 0].tolist() == [9.0, 9.0]  # type: ignore[attr-defined]


def test_a_stream_is_the_same_alone_and_among_others() -> None:
    alone, among = beside("toy/catch", 1, 50, flicker=0.5)[0], beside("toy/catch", 4, 50, flicker=0.5)[0]
    for (_, a), (_, b) in zip(alone, among, strict=True):
        if a["is_last"]:  # later episodes have had other actions
            break
        assert a["obs.image"].any() == b["obs.image"].any()


def takes_mask(mask: Any = None) -> gymnasium.Env:
    return Catch()


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        ("toy/catch", {"flicker": 1.0}, "flicker 1.0"),
        ("toy/catch", {"flicker": -0.5}, "flicker -0.5"),
        ("toy/catch", {"flicker": "half"}, "flicker 'half'"),
        ("toy/catch", {"flicker": True}, "flicker True"),
        ("toy/catch", {"mask": [0]}, "has no vector"),
        ("CartPole-v1", {"mask": [4]}, r"'vector' in 0\.\.3"),
        ("CartPole-v1", {"mask": [-1]}, r"mask \[-1\]"),
        ("CartPole-v1", {"mask": "1,3"}, "mask '1,3'"),
        ("CartPole-v1", {"mask": 3}, "mask 3"),
        ("CartPole-v1", {"mask": {"velocity": [1]}}, "it has vector"),
        (f"{HERE}:Far", {"mask": [0]}, "position, velocity; say which: mask.position"),
        (f"{HERE}:FarAndIndex", {"flicker": 0.5}, "'room'"),
        (f"{HERE}:takes_mask", {}, "takes 'mask'"),
    ],
)
def test_mistakes_are_named_in_one_line(id: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        make_env(id, **options)
    assert "\n" not in str(error.value)


def test_checks_and_listings_know_of_it() -> None:
    report = check_env("CartPole-v1", 200, mask=[1, 3], flicker=0.5)
    assert report.ok
    assert report.resume == "replay"
    assert report.observation["vector"][0].startswith("Box([-4.8         0.  ")
    assert check_env("toy/catch", 200, flicker=0.5, cells=11).ok
    assert check_env("CartPole-v1", 200, protocol="default").ok
    assert any("flicker" in line for line in env_names()["any, in part"])


def best_flickering_catch(cells: int, flicker: float) -> float:
    """The best mean return by working backwards over what matters: the row, the paddle, and that no ball was seen."""
    columns = range(cells)

    def unseen(row: int, paddle: int) -> float:
        """Chance of a catch with the paddle here before this row is looked at, no ball seen so far."""
        left = cells - 1 - row
        if left == 0:
            return 1 / cells
        reached = np.mean([abs(column - paddle) <= left for column in columns])
        moves = [unseen(row + 1, min(max(paddle + move, 0), cells - 1)) for move in (-1, 0, 1)]
        return float((1 - flicker) * reached + flicker * max(moves))

    return 2 * unseen(0, cells // 2) - 1


@pytest.mark.parametrize(("cells", "flicker"), list(itertools.product([5, 6], [0.0, 0.5, 0.8])))
def test_the_best_score_in_flickering_catch(cells: int, flicker: float) -> None:
    # As docs/environments.md has it: wait in the middle; a ball d columns away must show in one of cells - d rows.
    distances = [abs(column - cells // 2) for column in range(cells)]
    caught = [1.0 if d == 0 else 1.0 - flicker ** (cells - d) for d in distances]
    assert 2 * np.mean(caught) - 1 == pytest.approx(best_flickering_catch(cells, flicker))
