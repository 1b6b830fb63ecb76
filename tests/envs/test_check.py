"""check_env: one deliberately broken environment per mistake, each reported as a line and none as a traceback."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.check import Report, check_env
from reverie.envs.make import make_env
from reverie.errors import UserError


class Good(gymnasium.Env[Any, Any]):
    """Keeps every rule; each test breaks one."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 255, (16, 16, 1), np.uint8)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(5, 15))
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        over = self.t >= self.length
        return self.look(), self.pay(), over and self.terminal(), over and not self.terminal(), {}

    def look(self) -> Any:
        return self.np_random.integers(0, 256, (16, 16, 1)).astype(np.uint8)

    def pay(self) -> Any:
        return float(self.t)

    def terminal(self) -> bool:
        return True


def broken(**changes: Any) -> Callable[[], gymnasium.Env]:
    return type("Broken", (Good,), changes)


def test_a_good_environment_passes() -> None:
    report = check_env(Good)
    assert report.ok, report.problems
    assert report.warnings == ()
    assert report.resume == "replay"
    assert report.observation == {"image": ("Box(0, 255, (16, 16, 1), uint8)", "CNN")}
    assert report.env_steps == 1000
    assert 5 <= min(report.episode_lengths) < max(report.episode_lengths) <= 14
    assert report.terminal_ends == len(report.episode_lengths)
    assert report.limit_ends == 0
    assert report.reward_min == 1.0
    assert report.reward_max == 14.0
    assert report.lines()[0] == "Good"
    assert report.lines()[-1] == "  ok"


def stuck(self: Good) -> np.ndarray:
    if not hasattr(self, "frame") or self.t == 0:
        self.frame = Good.look(self)
    return self.frame


def same_array(self: Good) -> np.ndarray:
    if not hasattr(self, "buffer"):
        self.buffer = np.zeros((16, 16, 1), np.uint8)
    self.buffer[:] = self.np_random.integers(0, 256, (16, 16, 1))
    return self.buffer


def ignores_seed(self: Good, *, seed: Any = None, options: Any = None) -> Any:
    return Good.reset(self)


def noisy_step(self: Good, action: Any) -> Any:
    _, reward, terminated, truncated, info = Good.step(self, action)
    return np.random.default_rng().integers(0, 256, (16, 16, 1)).astype(np.uint8), reward, terminated, truncated, info


def fixed_length(self: Good, *, seed: Any = None, options: Any = None) -> Any:
    out = Good.reset(self, seed=seed)
    self.length = 20
    return out


def raises(self: Good, action: Any) -> Any:
    raise ZeroDivisionError("division\nby zero")


FLOAT = spaces.Box(-1, 1, (3,), np.float32)

PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "float image": (
        {
            "observation_space": spaces.Box(0, 1, (16, 16, 3), np.float32),
            "look": lambda self: self.np_random.random((16, 16, 3), np.float32),
        },
        "a picture or numbers? Say --env.options.kind image",
    ),
    "small grid": (
        {
            "observation_space": spaces.Box(0, 255, (7, 7, 3), np.uint8),
            "look": lambda self: self.np_random.integers(0, 11, (7, 7, 3)).astype(np.uint8),
        },
        "a picture, codes or numbers? Say --env.options.kind image, --env.options.kind grid",
    ),
    "wrong dtype": (
        {"observation_space": FLOAT, "look": lambda self: self.np_random.uniform(-1, 1, 3)},
        "dtype float64, its space declares float32",
    ),
    "wrong shape": (
        {"observation_space": FLOAT, "look": lambda self: self.np_random.random((3, 1), np.float32)},
        "shape (3, 1), its space declares (3,)",
    ),
    "not an array": ({"observation_space": FLOAT, "look": lambda self: [0.0, 0.1, 0.2]}, "is a list"),
    "out of bounds": (
        {"observation_space": FLOAT, "look": lambda self: self.np_random.random(3, np.float32) + 5},
        "outside its bounds [-1, 1]",
    ),
    "NaN observation": ({"observation_space": FLOAT, "look": lambda self: np.full(3, np.nan, np.float32)}, "NaN"),
    "wrong index": ({"observation_space": spaces.Discrete(3), "look": lambda self: 3}, "outside its declared space"),
    "missing key": (
        {
            "observation_space": spaces.Dict({"a": FLOAT, "b": FLOAT}),
            "look": lambda self: {"a": np.zeros(3, np.float32)},
        },
        "['a'] where its space declares keys ['a', 'b']",
    ),
    "text": (
        {"observation_space": spaces.Dict({"m": spaces.Text(5)}), "look": lambda self: {"m": "hi"}},
        "'m' has space",
    ),
    "NaN reward": ({"pay": lambda self: np.nan}, "reward is nan"),
    "no reward": ({"pay": lambda self: None}, "reward None is not a number"),
    "old step": ({"step": lambda self, action: (self.look(), 0.0, False, {})}, "step() returned 4 values"),
    "old reset": (
        {"reset": lambda self, seed=None, options=None: np.zeros((16, 16, 1), np.uint8)},
        "reset() returned a",
    ),
    "no seed argument": ({"reset": lambda self: None}, "reset() raised TypeError"),
    "step raises": ({"step": raises}, "step() raised ZeroDivisionError: division by zero"),
    "flag": ({"terminal": lambda self: np.float64(1.0)}, "return a bool"),
    "seed ignored": ({"reset": ignores_seed}, "two resets with the same seed"),
    "infinite action bounds": ({"action_space": spaces.Box(-np.inf, np.inf, (1,))}, "no bounds that could be reached"),
    "largest numbers as action bounds": (
        {"action_space": spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,))},
        "no bounds that could be reached",
    ),
    "empty action bounds": ({"action_space": spaces.Box(1.0, 1.0, (1,))}, "low is not below its high"),
    "dictionary action": ({"action_space": spaces.Dict({"a": spaces.Discrete(2)})}, "flatten it"),
    "no spaces": ({"observation_space": None}, "observation_space is None"),
}

WARNINGS: dict[str, tuple[dict[str, Any], str]] = {
    "time limit as termination": ({"reset": fixed_length}, "after exactly 20 env_steps"),
    "constant observation": ({"look": lambda self: np.zeros((16, 16, 1), np.uint8)}, "never changed"),
    "stuck frames": ({"look": stuck}, "changed at resets only"),
    "zero reward": ({"pay": lambda self: 0.0}, "no reward other than 0"),
    "endless": (
        {"terminal": lambda self: False, "step": lambda self, a: (self.look(), 1.0, False, False, {})},
        "TimeLimit",
    ),
    "random beyond the seed": ({"step": noisy_step}, "cannot be repeated"),
    "small image": (
        {
            "observation_space": spaces.Box(0, 255, (8, 8, 1), np.uint8),
            "look": lambda self: self.np_random.integers(0, 256, (8, 8, 1)).astype(np.uint8),
        },
        "8x8 pixels",
    ),
    "asymmetric actions": ({"action_space": spaces.Box(0.0, 2.0, (1,))}, "normalised"),
}


def plain(report: Report) -> None:
    assert all("\n" not in line for line in report.lines())


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_a_broken_rule_is_one_problem(name: str) -> None:
    changes, words = PROBLEMS[name]
    report = check_env(broken(**changes), env_steps=100)
    assert not report.ok
    assert len([line for line in report.problems if words in line]) == 1, report.problems
    assert len(report.problems) <= 2
    plain(report)


@pytest.mark.parametrize("name", list(WARNINGS))
def test_a_likely_mistake_is_one_warning(name: str) -> None:
    changes, words = WARNINGS[name]
    report = check_env(broken(**changes), env_steps=200, **({"kind": "image"} if name == "small image" else {}))
    assert report.ok, report.problems
    assert [line for line in report.warnings if words in line], report.warnings
    assert len(report.warnings) <= 2
    plain(report)


def test_a_reused_buffer_is_not_mistaken_for_a_constant() -> None:
    assert check_env(broken(look=same_array), env_steps=200).warnings == ()


def test_a_constructor_that_raises_is_a_problem() -> None:
    def make() -> gymnasium.Env:
        raise OSError("no display")

    assert check_env(make).problems == ("it cannot be made: OSError: no display",)


@pytest.mark.parametrize(
    "id", ["toy/catch", "toy/count", "toy/maze", "toy/tmaze", "CartPole-v1", "Pendulum-v1", f"{__name__}:Good"]
)
def test_known_environments_have_no_problems(id: str) -> None:
    report = check_env(id, env_steps=300)
    assert report.ok, report.problems
    assert report.resume == "replay"


def test_sources_without_a_single_environment() -> None:
    report = check_env("CartPole-v1", env_steps=200, native=True)
    assert report.ok
    assert report.resume == "truncate"
    assert report.env_steps == 200
    pytest.importorskip("ale_py")
    report = check_env("ALE/Pong-v5", env_steps=100, max_frames=160, threads=1)
    assert report.ok, report.problems
    assert (report.resume, report.limit_ends, report.terminal_ends) == ("replay", 2, 0)
    assert report.episode_lengths == (40, 40)


def test_the_example_in_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    code = page[page.index("    # corridor.py") : page.index('    make_env("corridor:Corridor"')]
    (tmp_path / "corridor.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    report = check_env("corridor:Corridor")
    assert report.ok, report.problems
    assert report.warnings == ()
    assert make_env("corridor:Corridor", num_envs=4, length=12).reset(0)["obs.image"].shape == (4, 64, 64, 3)


def test_what_a_family_says_of_its_pictures_counts_here_too() -> None:
    """Twelve pixels a side: without a word a picture, codes or numbers."""
    assert check_env("toy/catch", size=12, env_steps=20).problems == ()


@pytest.mark.parametrize(("seed", "env_steps"), [(-1, 10), (0, 0)])
def test_numbers_that_cannot_be_are_refused(seed: int, env_steps: int) -> None:
    with pytest.raises(UserError, match=f"seed {seed} must be at least 0 and env_steps {env_steps} at least 1"):
        check_env("toy/catch", env_steps, seed)
