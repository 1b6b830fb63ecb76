"""Values of environment options are checked against the annotations of what takes them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner

from reverie.cli import cli
from reverie.envs.catch import Catch
from reverie.envs.make import make_env
from reverie.envs.options import annotated, check_options, fits
from reverie.errors import UserError

HERE = "tests.envs.test_options"
NEEDS = {"dmc/": "dm_control", "ALE/": "ale_py", "crafter/": "crafter"}


def needs(id: str) -> None:
    for prefix, package in NEEDS.items():
        if id.startswith(prefix) and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


def catch(cells: int = 8, name: str | None = None) -> gymnasium.Env:
    return Catch(cells=cells)


@pytest.mark.parametrize(
    ("id", "name", "value", "expected"),
    [
        ("toy/noisy-catch", "size", "abc", "an int"),
        ("toy/noisy-catch", "strength", "abc", "a float"),
        ("toy/noisy-catch", "strength", True, "a float"),
        ("toy/noisy-catch", "cells", 4.5, "an int"),
        ("toy/noisy-catch", "cells", True, "an int"),
        ("toy/noisy-catch", "ball", 1.5, "an int or none"),
        ("toy/noisy-catch", "dense", float("nan"), "a float, and finite"),
        ("toy/noisy-catch", "dense", float("inf"), "a float, and finite"),
        ("toy/tmaze", "pixels", 1, r"a bool \(true or false\)"),
        ("toy/tmaze", "length", None, "an int"),
        ("toy/count", "end", 3, "one of terminal, limit, mixed"),
        ("dmc/cheetah-run", "size", "abc", "an int"),
        ("dmc/cheetah-run", "vary", 3, "a list of text"),
        ("dmc/cheetah-run", "vary", [3], "a list of text"),
        ("dmc/cheetah-run", "vary", "floor", r"a list of text, such as \[floor\]"),
        ("dmc/cheetah-run", "visual_seeds", "x", "an int"),
        ("dmc/cheetah-run", "visual_seeds", 2.5, "an int"),
        ("dmc/cheetah-run", "render", "nice", "one of published, cheap, smooth"),
        ("ALE/Pong-v5", "sticky", "often", "a float"),
        ("ALE/Pong-v5", "sticky", float("nan"), "a float, and finite"),
        ("ALE/Pong-v5", "grayscale", "no", "a bool"),
        ("ALE/Pong-v5", "size", 84.5, "an int"),
        ("ALE/Pong-v5", "threads", "all", "an int"),
        ("crafter/reward", "length", "long", "an int"),
        ("crafter/reward", "size", [64, 64], "an int"),
        (f"{HERE}:catch", "cells", "abc", "an int"),
        (f"{HERE}:catch", "name", 3, "text or none"),
        ("toy/catch", "flicker", "", "a float"),
        ("toy/catch", "flicker", float("nan"), "a float, and finite"),
        ("toy/catch", "mask", "", "a list of an int or a dict"),
        ("CartPole-v1", "mask", {"vector": [0.5]}, "a list of an int or a dict"),
    ],
)
def test_values_of_a_wrong_type_are_named_in_one_line(id: str, name: str, value: Any, expected: str) -> None:
    needs(id)
    with pytest.raises(UserError, match=f"must be {expected}") as error:
        make_env(id, **{name: value})
    assert str(error.value).startswith(f"{id}: {name} {value!r} must be ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("camera", [99, 2, -2])
def test_a_task_names_its_cameras(camera: int) -> None:
    needs("dmc/")
    with pytest.raises(UserError, match=rf"dmc/cheetah-run has 2 cameras; camera {camera} must be 0\.\.1, or -1"):
        make_env("dmc/cheetah-run", protocol="dmc-proprio", camera=camera)


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("toy/noisy-catch", {"strength": 0, "dense": np.float32(2), "ball": None, "size": np.int64(40)}),
        ("toy/tmaze", {"pixels": True}),
        ("toy/count", {"end": "mixed", "max_length": 9}),
        ("dmc/cheetah-run", {"protocol": "dmc-remastered", "vary": ["light", "floor"], "visual_seeds": 3, "camera": 1}),
        ("ALE/Pong-v5", {"sticky": 0, "grayscale": False, "threads": 1}),
        ("crafter/reward", {"size": 32, "length": 20}),
        (f"{HERE}:catch", {"cells": 5, "name": "five"}),
        ("CartPole-v1", {"flicker": 0, "mask": (1, 3)}),
        ("CartPole-v1", {"flicker": 0.5, "mask": {"vector": [1]}}),
    ],
)
def test_values_of_the_right_type_are_taken_as_they_are(id: str, options: dict[str, Any]) -> None:
    needs(id)
    env = make_env(id, **options)
    for name, value in options.items():
        if name not in ("protocol", "flicker", "mask", "threads"):
            shown = env.spec.flags[name]
            assert sorted(shown) == sorted(value) if name == "vary" else shown == value
    env.close()


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3, np.int32(2)], [1.0, True, "1", None, np.True_]),
        (float, [0.5, 1, 10**400, np.float32(1)], [True, float("nan"), float("-inf"), "1", None, 1j]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (None, [None], [0, ""]),
        (int | None, [1, None], ["none", 1.5]),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0, None, ["a"]]),
        (tuple[str, ...], [(), ["a"], ("a", "b")], ["a", [1], None, {"a": 1}]),
        (list[int], [[], (1, 2)], [1, [1.5], ["1"]]),
        (tuple[int, float], [(1, 2), [1, 0.5]], [(1,), (0.5, 1), (1, 2, 3)]),
        (Sequence[int] | Mapping[str, Sequence[int]], [(), [1], {}, {"a": [1]}], [0, "", {"a": 1}, {1: [1]}]),
        (dict, [{}, {1: 2}], [[], "a"]),
        (list, [[], [1, "a"]], [1, "a"]),
        (Any, [None, 1, "a", [float("nan")]], []),
        (np.ndarray, [None, "of a kind that is not checked"], []),
    ],
)
def test_what_fits_a_type(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert [fits(value, hint) for value in good] == [True] * len(good)
    assert [fits(value, hint) for value in bad] == [False] * len(bad)


def test_annotations_are_relied_on_only_where_they_can_be() -> None:
    def loose(  # type: ignore[no-untyped-def]
        limit: float = float("inf"),
        name: str = None,  # type: ignore[assignment]  # noqa: RUF013
        size: int = 3,
        free=1,
        *rest: int,
    ) -> None:
        """Annotations that their own defaults do not fit, and none at all."""

    def hidden(size: OnlyForCheckers = 3) -> None:  # type: ignore[name-defined]  # noqa: F821
        """An annotation that does not exist when this runs."""

    assert annotated(loose) == {"limit": Any, "name": Any, "size": int, "free": Any}
    assert annotated(hidden) == {"size": Any}
    check_options("loose", {"limit": float("inf"), "name": 3, "free": "a"}, annotated(loose))


@pytest.mark.parametrize("name", ["id", "num_envs", "protocol", "stepping"])
@pytest.mark.parametrize("command", [["check-env", "toy/catch"], ["train", "dqn", "--env", "toy/catch"]])
def test_what_is_said_in_another_way_is_no_option(command: list[str], name: str) -> None:
    done = CliRunner().invoke(cli, [*command, f"--env.options.{name}", "3"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert f"env.options has '{name}'" in done.stderr


def test_the_command_line_ends_with_2_and_one_line() -> None:
    for words in (["--env.options.size", "abc"], ["--env.options.dense", "nan"]):
        result = CliRunner().invoke(cli, ["check-env", "toy/noisy-catch", *words])
        assert result.exit_code == 2, result.output
        assert result.output.count("\n") == 1
