"""Space adaptation: what each kind of space turns into, and what is refused with a fix."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.data.rows import row_spec
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.errors import UserError


@pytest.mark.parametrize(
    ("space", "observation", "key", "value"),
    [
        (spaces.Discrete(3, start=5), 6, "index", 1),
        (spaces.MultiDiscrete([3, 4], start=[1, 0]), [2, 3], "index", [1, 3]),
        (spaces.MultiBinary(3), [1, 0, 1], "vector", [1.0, 0.0, 1.0]),
        (spaces.Box(-1, 1, (2, 2), np.float64), [[0.5, 1], [0, -1]], "vector", [0.5, 1.0, 0.0, -1.0]),
        (spaces.Box(-1000, 1000, (3,), np.int64), [7, 8, 9], "vector", [7.0, 8.0, 9.0]),
        (spaces.Box(-9, 9, (), np.float64), 2.5, "vector", [2.5]),
    ],
)
def test_each_space_by_itself(space: spaces.Space, observation: object, key: str, value: object) -> None:
    adapter = ObservationAdapter(space)
    got = adapter.one(np.array(observation))
    assert list(got) == [key]
    np.testing.assert_array_equal(got[key], value)
    field = row_spec(adapter.spaces, spaces.Discrete(2))["obs." + key]
    assert (got[key].shape, got[key].dtype) == (field.shape, field.dtype)
    assert adapter.spaces[key].contains(got[key]) or isinstance(space, spaces.Discrete)


@pytest.mark.parametrize(
    ("shape", "adapted"),
    [
        ((64, 48), (64, 48, 1)),
        ((64, 48, 3), (64, 48, 3)),
        ((3, 64, 48), (64, 48, 3)),
        ((1, 20, 16), (20, 16, 1)),
        ((4, 84, 84), (84, 84, 4)),
        ((16, 84, 84), (84, 84, 16)),
        ((12, 64, 48), (64, 48, 12)),
        ((84, 84, 16), (84, 84, 16)),
    ],
)
def test_images(shape: tuple[int, ...], adapted: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    adapter = ObservationAdapter(spaces.Box(0, 255, shape, np.uint8))
    got = adapter.one(image)["image"]
    assert adapter.spaces["image"].shape == got.shape == adapted
    expected = image[..., None] if len(shape) == 2 else image.transpose(1, 2, 0) if adapted != shape else image
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(adapter.batch(np.stack([image, image]))["image"][1], expected)
    image[:] = 0
    assert got.any(), "the adapter must not share memory with the environment"


def test_nested_names() -> None:
    space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (16, 16, 3), np.uint8),
            "body": spaces.Dict({"arm": spaces.Box(-1, 1, (2,)), "hand": spaces.Tuple([spaces.Discrete(2)])}),
        }
    )
    adapter = ObservationAdapter(space)
    assert set(adapter.spaces) == {"camera", "body/arm", "body/hand/0"}
    got = adapter.one(space.sample())
    assert got["body/hand/0"].dtype == np.int64
    assert ObservationAdapter(spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])).spaces.keys() == {"0", "1"}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Dict({"mission": spaces.Text(9)}), "'mission'.*--env.options.kind.mission drop"),
        (spaces.Sequence(spaces.Discrete(2)), "fixed shape"),
        (spaces.Dict({}), "empty"),
        (spaces.Dict({"a/b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})}), "collide"),
    ],
)
def test_refused_observations(space: spaces.Space, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ObservationAdapter(space)


def test_discrete_actions() -> None:
    assert ActionAdapter(spaces.Discrete(3, start=-1)).one(np.array(0)) == -1
    binary = ActionAdapter(spaces.MultiBinary(3))
    assert isinstance(binary.space, spaces.MultiDiscrete)
    np.testing.assert_array_equal(binary.one(np.array([1, 0, 1])), [1, 0, 1])
    assert binary.native.contains(binary.one(np.array([1, 0, 1])))
    multi = ActionAdapter(spaces.MultiDiscrete([2, 3], start=[4, 5]))
    np.testing.assert_array_equal(multi.batch(np.array([[0, 0], [1, 2]])), [[4, 5], [5, 7]])


@given(st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=2))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_continuous_actions_reach_asymmetric_bounds(action: list[float]) -> None:
    native = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)
    got = ActionAdapter(native).one(np.array(action, np.float32))
    clipped = np.clip(np.float32(action), -1, 1).astype(np.float64)
    np.testing.assert_allclose(got, [2 * clipped[0], 5 + 5 * clipped[1]], atol=1e-6)
    assert native.contains(got)


def test_continuous_actions_by_hand() -> None:
    native = spaces.Box(np.array([[-1.0, 0.0]], np.float32), np.array([[3.0, 1.0]], np.float32), dtype=np.float32)
    adapter = ActionAdapter(native)
    assert adapter.space == spaces.Box(-1, 1, (2,), np.float32)
    np.testing.assert_array_equal(adapter.one(np.array([-1.0, 1.0])), [[-1.0, 1.0]])
    np.testing.assert_array_equal(adapter.one(np.array([0.0, 0.0])), [[1.0, 0.5]])


@pytest.mark.parametrize(
    "space", [spaces.Box(-np.inf, np.inf, (2,)), spaces.Dict({"a": spaces.Discrete(2)}), spaces.Text(3)]
)
def test_refused_actions(space: spaces.Space) -> None:
    with pytest.raises(UserError, match="action space"):
        ActionAdapter(space)
