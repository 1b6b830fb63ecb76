"""Environments from a plan: nested spaces, lengths, ends, infos, and faults at any moment; and what must come out.

`World` plays a plan (nested dicts and lists, as JSON has them). `expected_row` and `expected_action` say, without the
library's adapters, what rows show of its observations and what it must be given for row actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

Plan = dict[str, Any]


def space_of(leaf: Any) -> spaces.Space:
    """The space of a leaf, or of a dictionary or list of them."""
    if isinstance(leaf, list):
        return spaces.Tuple([space_of(part) for part in leaf])
    if "is" not in leaf:
        return spaces.Dict({key: space_of(part) for key, part in leaf.items()})
    if leaf["is"] == "discrete":
        return spaces.Discrete(leaf["n"], start=leaf["start"])
    if leaf["is"] == "many":
        return spaces.MultiDiscrete(leaf["n"], start=[leaf["start"]] * len(leaf["n"]))
    if leaf["is"] == "bits":
        return spaces.MultiBinary(leaf["shape"])
    return spaces.Box(leaf["low"], leaf["high"], tuple(leaf["shape"]), np.dtype(leaf["dtype"]).type)


def leaves(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Paths and leaves of a plan's observation."""
    if isinstance(tree, dict) and "is" in tree:
        yield above, tree
    else:
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(part, (*above, key))


class World(gymnasium.Env):
    """The environment of a plan. Actions outside of its space, and masked ones, raise; `given` keeps the last."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.played, self.given = plan, 0, None
        self.observation_space = space_of(plan["observation"])
        self.action_space = space_of(plan["action"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.rng = np.random.default_rng(seed)
        self.observation_space.seed(seed)
        self.length = self.plan["lengths"][self.rng.integers(len(self.plan["lengths"]))]
        self.time = 0
        return self.look()

    def step(self, action: Any) -> Any:
        if not self.action_space.contains(action):
            raise AssertionError(f"{action!r} is outside of {self.action_space}")
        if self.plan["mask"] and not self.mask[int(action) - self.action_space.start]:
            raise AssertionError(f"{action!r} is masked by {self.mask}")
        self.given = action
        self.time += 1
        self.played += 1
        fault = self.plan["fault"] if self.played == self.plan["fault_at"] else ""
        if fault == "raise":
            raise RuntimeError("the simulator\nbroke")
        over = self.time >= self.length
        terminated, truncated = over and self.plan["ends"] != "limit", over and self.plan["ends"] != "terminal"
        reward: Any = round(float(self.rng.normal()), 3)
        reward = {"none": None, "nan reward": float("nan")}.get(fault, reward)
        observation, info = self.look()
        if fault == "nothing":
            return None
        if fault == "four":
            return observation, reward, over, info
        if fault == "shape":
            observation = np.zeros((2, 3, 5, 7), np.float32)
        return observation, np.array([reward]) if self.plan["arrays"] else reward, terminated, truncated, info

    def look(self) -> Any:
        observation: Any = self.observation_space.sample()
        info: dict[str, Any] = {"time": self.time, "note": "any", "nested": {"array": np.zeros(3)}}
        if self.plan["mask"]:
            self.mask = (self.rng.random(self.action_space.n) < 0.5).astype(np.int8)
            self.mask[self.rng.integers(len(self.mask))] = 1
            if self.plan["mask"] == "info":
                info["action_mask"] = self.mask
            else:
                observation["action_mask"] = self.mask
        return observation, info


def options_of(plan: Plan) -> dict[str, Any]:
    """Options that say what the spaces do not, as far as the plan wants them said."""
    kinds = {"/".join(map(str, path)): leaf["said"] for path, leaf in leaves(plan["observation"]) if leaf.get("said")}
    said: dict[str, Any] = {"plan": plan}
    if kinds:
        said["kind"] = kinds.get("", kinds)
    if plan["mask"] == "info":
        said["action_mask"] = "follow"
    return said


def expected_row(plan: Plan, observation: Any) -> dict[str, np.ndarray]:
    """What rows show of an observation."""
    out = {}
    for path, leaf in leaves(plan["observation"]):
        value = observation
        for key in path:
            value = value[key]
        name, shown = _shown(leaf, np.asarray(value))
        out["/".join(map(str, path)) or name] = shown
    return out


def _shown(leaf: Any, x: np.ndarray) -> tuple[str, np.ndarray]:
    if leaf["is"] in ("discrete", "many"):
        return "index", x.reshape(x.shape).astype(np.int64) - leaf["start"]
    if leaf["is"] == "bits":
        return "vector", x.reshape(-1).astype(np.float32)
    low, high = leaf["low"], leaf["high"]
    if leaf["shows"] == "vector":
        largest = max(abs(low), abs(high))
        small = np.dtype(leaf["dtype"]).kind in "iu" and 1 < largest <= 255
        return "vector", (x.reshape(-1) / (largest if small else 1)).astype(np.float32)
    if leaf["layout"] == "chw":
        x = x.transpose(1, 2, 0)
    x = x[:, :, None] if x.ndim == 2 else x
    if leaf["shows"] == "image":
        return "image", np.rint((x.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
    count = high - low + 1
    grid = np.zeros((*x.shape[:2], x.shape[2] * count), np.uint8)
    for (i, j, plane), code in np.ndenumerate(x):
        grid[i, j, plane * count + int(code) - low] = 255
    return "grid", grid


def expected_action(plan: Plan, action: np.ndarray) -> np.ndarray:
    """What the environment must be given for one row action."""
    leaf = plan["action"]
    if leaf["is"] in ("discrete", "many"):
        return np.asarray(action) + leaf["start"]
    if leaf["is"] == "bits":
        return np.asarray(action).reshape(leaf["shape"])
    low, high = float(leaf["low"]), float(leaf["high"])
    native = low + (np.clip(np.asarray(action, np.float64), -1, 1) + 1) / 2 * (high - low)
    native = np.rint(native) if np.dtype(leaf["dtype"]).kind == "i" else native
    return native.reshape(leaf["shape"])


def _box(shape: Any, dtype: str, low: float, high: float, shows: str, said: str = "", layout: str = "") -> Any:
    return {
        "is": "box", "shape": list(shape), "dtype": dtype, "low": low, "high": high,
        "shows": shows, "said": said, "layout": layout,
    }  # fmt: skip


SIDES = st.integers(16, 19)
NUMBERS = st.lists(st.integers(1, 3), max_size=2).flatmap(
    lambda shape: st.one_of(
        st.sampled_from([("float32", -1.0, 1.0), ("float64", -9.0, 0.5), ("float32", 0.0, 1e6)]).map(
            lambda kind: _box(shape, kind[0], kind[1], kind[2], "vector")
        ),
        st.sampled_from([("int64", -9, 9), ("uint8", 0, 255), ("int32", -1, 1), ("int16", 0, 1000)]).map(
            lambda kind: _box(shape, *kind, "vector", "vector" if len(shape) > 1 else "")
        ),
    )
)
PICTURES = st.tuples(SIDES, SIDES, st.sampled_from([1, 2, 3, 6]), st.sampled_from(["hw", "hwc", "chw"])).flatmap(
    lambda picture: st.sampled_from(
        [("uint8", 0, 255, ""), ("int32", 0, 255, ""), ("float32", 0.0, 1.0, "image"), ("uint8", 0, 9, "image")]
    ).map(
        lambda kind: _box(
            {"hw": picture[:2], "hwc": picture[:3], "chw": (picture[2], *picture[:2])}[picture[3]],
            kind[0],
            kind[1],
            kind[2],
            "image",
            kind[3],
            picture[3],
        )
    )
)
GRIDS = st.tuples(st.integers(4, 6), st.integers(-1, 1), st.integers(1, 4), st.sampled_from(["hw", "hwc", "chw"])).map(
    lambda grid: _box(
        {"hw": (grid[0], 5), "hwc": (grid[0], grid[0], 2), "chw": (2, grid[0], grid[0])}[grid[3]],
        "int64",
        grid[1],
        grid[1] + grid[2],
        "grid",
        "grid",
        grid[3],
    )
)
STARTS = st.integers(-3, 12)
CODES = st.one_of(
    st.tuples(st.integers(1, 5), STARTS).map(lambda x: {"is": "discrete", "n": x[0], "start": x[1]}),
    st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=2), STARTS).map(
        lambda x: {"is": "many", "n": x[0], "start": x[1]}
    ),
    st.lists(st.integers(1, 2), min_size=1, max_size=2).map(lambda shape: {"is": "bits", "shape": shape}),
)
LEAVES = st.one_of(NUMBERS, CODES, PICTURES, GRIDS)
KEYS = st.sampled_from(["a", "b", "image", "reward", "is_first", "vector"])
OBSERVATIONS = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES,
        lambda below: st.one_of(
            st.dictionaries(KEYS, below, min_size=1, max_size=2), st.lists(below, min_size=1, max_size=2)
        ),
        max_leaves=3,
    ),
)
DISCRETE = st.tuples(st.integers(1, 6), STARTS).map(lambda x: {"is": "discrete", "n": x[0], "start": x[1]})
ACTIONS = st.one_of(
    DISCRETE,
    CODES,
    st.tuples(
        st.lists(st.integers(1, 2), max_size=2), st.sampled_from([("float32", 0.0, 10.0), ("float64", -3.0, 1.0)])
    ).map(lambda x: _box(x[0], *x[1], "")),
    st.just(_box([2], "int32", -3, 7, "")),
)
FAULTS = ("", "", "", "", "raise", "none", "nan reward", "nothing", "four", "shape")


@st.composite
def plans(draw: Any) -> Plan:
    """Any plan."""
    observation, action = draw(OBSERVATIONS), draw(ACTIONS)
    mask = ""
    if action["is"] == "discrete":
        mask = draw(st.sampled_from(["", "", "info", "obs"]))
    if mask == "obs" and not (isinstance(observation, dict) and "is" not in observation):
        observation = {"seen": observation}
    if mask == "obs":
        observation = {**observation, "action_mask": {"is": "bits", "shape": [action["n"]]}}
    return {
        "observation": observation,
        "action": action,
        "mask": mask,
        "lengths": draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)),
        "ends": draw(st.sampled_from(["terminal", "limit", "both"])),
        "arrays": draw(st.booleans()),
        "fault": draw(st.sampled_from(FAULTS)),
        "fault_at": draw(st.integers(1, 30)),
    }
