"""What a Box of an observation is: taken where it is certain, asked for where it is not, and never guessed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.check import check_env
from reverie.envs.make import make_env
from reverie.envs.reading import Reading
from reverie.envs.spaces import ObservationAdapter
from reverie.errors import UserError

HERE = __name__


def adapted(space: spaces.Space, observation: Any, **said: Any) -> dict[str, np.ndarray]:
    """The observation as rows have it, one by one and in a batch, inside the adapted spaces."""
    adapter = ObservationAdapter(space, Reading(**said))
    got = adapter.one(observation)
    assert got.keys() == adapter.spaces.keys()
    for key, value in got.items():
        assert adapter.spaces[key].contains(value), (adapter.spaces[key], value)
    if isinstance(observation, np.ndarray):
        batch = adapter.batch(np.stack([observation, observation]))
        for key, value in got.items():
            np.testing.assert_array_equal(batch[key][1], value)
    return got


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "uint64"])
@pytest.mark.parametrize("shape", [(16, 20), (16, 20, 3), (1, 20, 16), (6, 64, 64)])
def test_bytes_are_pictures_whatever_their_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    got = adapted(spaces.Box(0, 255, shape, np.dtype(dtype).type), picture)["image"]
    last = picture[..., None] if picture.ndim == 2 else picture.transpose(1, 2, 0) if shape[0] < 16 else picture
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, last)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "values", "shades"),
    [
        (0, 1, "float32", [0, 0.25, 1], [0, 64, 255]),
        (-1, 1, "float64", [-1, 0, 1], [0, 128, 255]),
        (0, 255, "float32", [0, 7.4, 255], [0, 7, 255]),
        (0, 10, "uint8", [0, 4, 10], [0, 102, 255]),
        (0, 1, "bool", [0, 1, 1], [0, 255, 255]),
        (0, 65535, "uint16", [0, 257, 65535], [0, 1, 255]),
        (-128, 127, "int8", [-128, 0, 127], [0, 128, 255]),
    ],
)
def test_pictures_are_scaled_by_their_own_bounds(low: float, high: float, dtype: str, values: Any, shades: Any) -> None:
    """255 (x - low) / (high - low), the nearest: 0.25 of [0, 1] is 63.75, the middle of [-1, 1] is 127.5."""
    space = spaces.Box(low, high, (20, 16, 3), np.dtype(dtype).type)
    picture = np.zeros((20, 16, 3), dtype)
    picture[0, 0] = values
    got = adapted(space, picture, kind="image")["image"]
    np.testing.assert_array_equal(got[0, 0], shades)


def test_bounds_of_single_channels_count() -> None:
    low, high = np.zeros((16, 16, 2), np.float32), np.ones((16, 16, 2), np.float32)
    high[..., 1] = 10
    got = adapted(spaces.Box(low, high), np.full((16, 16, 2), 1, np.float32), kind="image", layout="hwc")["image"]
    assert (got[0, 0] == [255, 26]).all()


def test_a_grid_is_a_plane_for_each_code() -> None:
    space = spaces.Box(0, 255, (2, 3, 2), np.uint8)
    grid = np.array([[[0, 1], [2, 0], [1, 1]], [[2, 1], [0, 0], [0, 1]]], np.uint8)
    got = adapted(space, grid, kind="grid", layout="hwc", codes=[3, 2])["grid"]
    expected = np.zeros((2, 3, 5), np.uint8)
    for y in range(2):
        for x in range(3):
            expected[y, x, grid[y, x, 0]] = expected[y, x, 3 + grid[y, x, 1]] = 255
    np.testing.assert_array_equal(got, expected)


def test_codes_of_a_grid_follow_from_its_bounds() -> None:
    chw = spaces.Box(-1, 2, (1, 4, 5), np.int64)
    board = np.random.default_rng(0).integers(-1, 3, (1, 4, 5))
    got = adapted(chw, board, kind="grid", layout="chw")["grid"]
    assert got.shape == (4, 5, 4)
    np.testing.assert_array_equal(got.argmax(-1) - 1, board[0])
    flat = adapted(spaces.Box(-1, 2, (4, 5), np.int64), board[0], kind="grid")["grid"]
    np.testing.assert_array_equal(flat, got)
    low, high = np.array([[[0, 1]]] * 2), np.array([[[1, 3]]] * 2)
    planes = adapted(spaces.Box(low, high, dtype=np.int64), np.array([[[1, 2]]] * 2), kind="grid", layout="hwc")["grid"]
    assert planes[0, 0].tolist() == [0, 255, 0, 255, 0]


def test_a_list_of_codes_is_an_index() -> None:
    space = spaces.Box(np.array([0, -2]), np.array([3, 2]), dtype=np.int64)
    assert adapted(space, np.array([3, -2]), kind="grid")["index"].tolist() == [3, 0]
    assert ObservationAdapter(space, Reading("grid")).spaces == {"index": spaces.MultiDiscrete([4, 5])}


@pytest.mark.parametrize(
    ("low", "high", "dtype", "value", "expected"),
    [
        (0, 255, "uint8", 51, 0.2),
        (-9, 9, "int64", -9, -1.0),
        (-1, 1, "int8", -1, -1.0),
        (0, 1, "bool", 1, 1.0),
        (0, 1000, "int32", 999, 999.0),
        (0, 255, "float32", 51, 51.0),
        (-(2**31), 2**31 - 1, "int32", 7, 7.0),
    ],
)
def test_small_integers_in_a_row_are_divided_by_the_largest(
    low: Any, high: Any, dtype: str, value: Any, expected: float
) -> None:
    got = adapted(spaces.Box(low, high, (2,), np.dtype(dtype).type), np.array([value, 0], dtype))["vector"]
    np.testing.assert_allclose(got, [expected, 0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["image", "grid", "vector"])
def test_what_is_not_certain_is_as_it_is_said(kind: str) -> None:
    space = spaces.Box(0, 4, (5, 6), np.int64)
    board = np.random.default_rng(0).integers(0, 5, (5, 6))
    got = adapted(space, board, kind=kind)
    assert list(got) == [kind]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), "a picture, codes or numbers"),
        (spaces.Box(0, 255, (8, 8), np.uint8), "a picture, codes or numbers"),
        (spaces.Box(0, 10, (64, 64, 3), np.uint8), "from 0 to 10: a picture, codes or numbers"),
        (spaces.Box(0, 1, (10, 10, 4), np.bool_), "a picture, codes or numbers"),
        (spaces.Box(-9, 9, (2, 2), np.int64), "a picture, codes or numbers"),
        (spaces.Box(0, 65535, (64, 64), np.uint16), "a picture, codes or numbers"),
        (spaces.Box(0, 1, (64, 64, 3), np.float32), "a picture or numbers.*256 shades"),
        (spaces.Box(0, 1, (3, 64, 64), np.float32), "a picture or numbers"),
        (spaces.Box(-np.inf, np.inf, (84, 84), np.float64), "a picture or numbers"),
        (spaces.Box(0, 255, (4, 84, 84, 3), np.uint8), "one frame.*--env.options.kind vector"),
        (spaces.Box(0, 255, (20, 30, 40), np.uint8), "where its channels are: --env.options.layout hwc"),
        (spaces.Box(0, 255, (64, 3, 64), np.uint8), "where its channels are"),
        (spaces.Dict({"a": spaces.Dict({"b": spaces.Box(0, 9, (3, 3), np.int8)})}), "--env.options.kind.a.b image"),
    ],
)
def test_what_is_not_certain_is_asked_for(space: spaces.Space, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        ObservationAdapter(space)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "said", "words"),
    [
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), {"kind": "picture"}, "expected one of image, grid, vector, drop"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), {"layout": "wch"}, "expected one of hwc, chw, hw"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), {"layout": "hw"}, "has 2 axes"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), {"kind": "vector", "layout": "hwc"}, "no layout"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), {"kind": "image", "codes": 3}, "no codes"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), {"kind": {"rgb": "image"}}, "no observation 'rgb'"),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), {"kind": "grid"}, r"768 planes.*--env.options.codes \[N,N,N\]"),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), {"codes": [3, 4]}, "has 3 planes"),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), {"codes": 1}, "above 1"),
        (spaces.Box(0, 1, (7, 7, 3), np.float32), {"kind": "grid"}, "codes of a grid are integers"),
        (spaces.Box(0, np.inf, (64, 64, 3), np.float32), {"kind": "image"}, "no finite bounds"),
        (spaces.Box(0, 1, (5,), np.float32), {"kind": "image"}, "two axes or three"),
        (spaces.Discrete(3), {"kind": "image"}, "are of boxes"),
        (spaces.Discrete(3), {"kind": "drop"}, "empty"),
        (
            spaces.Dict({"a": spaces.Box(0, 9, (3, 3), np.int8), "b": spaces.Box(0, 9, (3, 3), np.int8)}),
            {"kind": "image"},
            "could be of a, b; say which: kind.a",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(space: spaces.Space, said: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        ObservationAdapter(space, Reading(**said))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "said", "value", "words"),
    [
        (spaces.Box(0, 255, (16, 16), np.int32), {}, 256, "value 256, outside its bounds 0 to 255"),
        (spaces.Box(0, 1, (16, 16), np.float32), {"kind": "image"}, np.nan, "value nan"),
        (spaces.Box(0, 1, (16, 16), np.float32), {"kind": "image"}, 1.5, "value 1.5"),
        (spaces.Box(0, 255, (16, 16), np.uint8), {"codes": 11}, 11, "value 11, outside its bounds 0 to 10"),
        (spaces.Discrete(4, start=10), {}, 14, "outside its space, which counts from 10 to 13"),
        (spaces.Discrete(4, start=10), {}, 3, "outside its space"),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), {}, 0, "outside its space"),
    ],
)
def test_values_that_bytes_or_codes_cannot_hold_are_refused(
    space: spaces.Space, said: dict[str, Any], value: float, words: str
) -> None:
    adapter = ObservationAdapter(space, Reading(**said))
    observation = np.full(space.shape or (), value, np.float64 if np.isnan(value) else getattr(space, "dtype", None))
    with pytest.raises(UserError, match=words):
        adapter.one(observation)


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (256, np.int64, "value 256, outside its bounds 0 to 255"),
        (-1, np.int16, "value -1"),
        (255.5, np.float32, "value 255.5"),
    ],
)
def test_what_is_declared_as_bytes_is_held_to_that_whatever_it_comes_in(value: float, dtype: Any, words: str) -> None:
    adapter = ObservationAdapter(spaces.Box(0, 255, (16, 16), np.uint8), Reading())
    (seen,) = adapter.one(np.full((16, 16), 254, dtype)).values()
    assert (seen == 254).all()
    with pytest.raises(UserError, match=words):
        adapter.one(np.full((16, 16), value, dtype))


class Game(gymnasium.Env):
    """A nested observation in which everything must be said."""

    observation_space = spaces.Dict(
        {
            "board": spaces.Box(0, 3, (5, 4), np.int32),
            "sight": spaces.Dict({"near": spaces.Box(0, 1, (3, 18, 17), np.float32)}),
            "words": spaces.Text(5),
        }
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action: Any) -> Any:
        return self.look(), 1.0, bool(self.np_random.random() < 0.1), False, {}

    def look(self) -> Any:
        sight = self.np_random.random((3, 18, 17), np.float32)
        return {
            "board": self.np_random.integers(0, 4, (5, 4)).astype(np.int32),
            "sight": {"near": sight},
            "words": "hello",
        }


class Kindly(Game):
    def __init__(self, kind: str = "nice") -> None:
        self.kind = kind


SAID: dict[str, Any] = {"kind": {"board": "grid", "sight": {"near": "image"}, "words": "drop"}}


def test_options_of_an_environment_say_it() -> None:
    env = make_env(f"{HERE}:Game", num_envs=2, **SAID)
    assert {key: space.shape for key, space in env.spec.observation.items()} == {
        "board": (5, 4, 4),
        "sight/near": (18, 17, 3),
    }
    assert env.spec.flags == SAID
    rows = env.reset(0)
    plain = Game()
    plain.reset(seed=0)
    assert (rows["obs.board"].sum(-1) == 255).all()
    assert check_env(f"{HERE}:Game", env_steps=50, **SAID).ok


def test_options_of_the_same_name_are_refused() -> None:
    with pytest.raises(UserError, match=r"takes 'kind'.*rename it"):
        make_env(f"{HERE}:Kindly", **SAID)
    with pytest.raises(UserError, match="Kindly: kind 3 must be text or a dict"):
        make_env(f"{HERE}:Kindly", kind=3)
    with pytest.raises(UserError, match="toy/catch has no option 'kind'"):
        make_env("toy/catch", kind="image")
