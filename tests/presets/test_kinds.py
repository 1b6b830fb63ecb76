"""The kind of an environment follows from its spaces, under the options that are given, and never from its id."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.errors import UserError
from reverie.presets import describe, make_config, presets, presets_of
from reverie.presets.task import Task
from reverie.run.configure import configure

HERE = __name__
MADE: list[tuple[int, ...]] = []


class Game(gymnasium.Env[np.ndarray, Any]):
    """Images or vectors of any shape, which nobody plays."""

    def __init__(self, shape: tuple[int, ...] = (48, 36, 3), continuous: bool = False) -> None:
        MADE.append(tuple(shape))
        image = len(shape) == 3
        self.observation_space: spaces.Space[np.ndarray] = (
            spaces.Box(0, 255, tuple(shape), np.uint8) if image else spaces.Box(-1, 1, tuple(shape), np.float32)
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(3)


OWN = f"{HERE}:Game"


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((48, 36, 3), "pixels"), ((36, 36, 1), "pixels"), ((48, 35, 3), "toy"), ((35, 35, 1), "toy"), ((5,), "vectors")],
)
def test_spaces_tell_the_kind(shape: tuple[int, ...], kind: str) -> None:
    assert Task(OWN, options={"shape": shape}).kind == kind


@pytest.mark.parametrize(
    "agent",
    [
        "dqn",
        "drqn",
        "r2d2",
        "rainbow",
        "iqn",
        "apex",
        "a2c",
        "a3c",
        "impala",
        "dreamerv1",
        "repo",
        "denoised",
        "dreamerv2",
        "harmonydream",
    ],
)
def test_cpu_is_the_preset_of_the_kind(agent: str) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "cpu-pixels": {"shape": (48, 36, 3)},
        "cpu-toy": {"shape": (12, 12, 1), "kind": "image"},
        "cpu-vectors": {"shape": (5,)},
    }
    if agent in ("dreamerv1", "repo", "denoised", "dreamerv2", "harmonydream"):
        kinds["cpu-continuous"] = {"shape": (5,), "continuous": True}
    seen = []
    for preset, options in kinds.items():
        by_kind, by_name = (make_config(agent, name, OWN, options=options) for name in ("cpu", preset))
        assert (by_kind.preset, by_name.preset) == ("cpu", preset)
        assert (by_kind.agent, by_kind.replay, by_kind.run) == (by_name.agent, by_name.replay, by_name.run)
        assert by_kind.env == by_name.env
        assert by_kind.env.options == options
        seen.append(repr((by_kind.agent, by_kind.replay, by_kind.run)))
    assert len(set(seen)) == len(kinds)


def test_ones_own_images_get_frames_and_the_room_of_pixels() -> None:
    config = configure("dqn", "cpu", OWN, [], {})
    assert (config.agent.stack, config.replay.store.budget) == (4, 1_500_000_000)
    assert config.env.protocol == "auto"


def test_continuous_vectors_are_vectors_to_agents_without_a_preset_for_them() -> None:
    assert make_config("dqn", "cpu", "Pendulum-v1").agent == make_config("dqn", "cpu-vectors", "Pendulum-v1").agent
    assert make_config("dreamerv2", "cpu", "Pendulum-v1").agent.rssm.latent == "gaussian"


def test_the_options_of_the_command_line_decide() -> None:
    def stack(*words: str) -> tuple[int, int]:
        config = configure("r2d2", "cpu", "toy/tmaze", words, {})
        return config.run.env_steps or 0, config.agent.stack

    assert stack() == (160_000, 1)
    assert stack("env.options.pixels=true") == (40_000, 1)
    assert stack("--env.options.pixels", "true", "--env.options.size=36") == (900_000, 2)
    assert stack('env.options={"pixels": true, "size": 40}') == (900_000, 2)
    assert configure("dreamerv2", "cpu", "dmc/walker-walk", ["env.protocol=dmc-proprio"], {}).agent.rssm.latent == (
        "gaussian"
    )


def test_options_of_a_preset_go_with_its_own_protocol() -> None:
    own = make_config("r2d2", "cpu-pixels", "ALE/Pong-v5").env
    assert (own.protocol, own.options) == ("atari-84", {"full_actions": False, "size": 60})
    other = make_config("r2d2", "cpu-pixels", "ALE/Pong-v5", protocol="atari-dqn2015").env
    assert (other.protocol, other.options) == ("atari-dqn2015", {})
    given = make_config("r2d2", "cpu-pixels", "ALE/Pong-v5", protocol="atari-84", options={"size": 48}).env
    assert given.options == {"full_actions": False, "size": 48}


@pytest.mark.parametrize("agent", ["r2d2", "drqn"])
def test_agents_that_remember_have_their_measured_toy_for_a_default(agent: str) -> None:
    default, measured = make_config(agent), make_config(agent, "cpu-toy", "toy/tmaze")
    assert (default.agent, default.replay, default.run, default.env) == (
        measured.agent,
        measured.replay,
        measured.run,
        measured.env,
    )
    assert make_config(agent, "cpu", "toy/tmaze").run == make_config(agent, "cpu-vectors", "toy/tmaze").run


def test_toys_are_what_they_show() -> None:
    kinds = {id: Task(id).kind for id in ("toy/catch", "toy/noisy-catch", "toy/tmaze", "toy/count")}
    assert kinds == {"toy/catch": "toy", "toy/noisy-catch": "toy", "toy/tmaze": "vectors", "toy/count": "vectors"}


def test_environments_are_made_only_when_somebody_looks() -> None:
    MADE.clear()
    make_config("dqn", "cpu-pixels", OWN)
    make_config("dreamerv2", "crafter", OWN)
    assert MADE == []
    make_config("dqn", "cpu", OWN, options={"shape": (5,)})
    assert MADE == [(5,)]


def test_an_environment_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(UserError, match="unknown environment 'toy/catsh'; did you mean toy/catch"):
        make_config("dqn", "cpu", "toy/catsh")
    with pytest.raises(UserError, match="unknown preset 'cpu-pixel' for dqn; did you mean cpu-pixels"):
        make_config("dqn", "cpu-pixel", "toy/catch")
    with pytest.raises(UserError, match=r"unknown key 'env\.protocl'.*env\.protocol"):
        configure("dqn", "cpu", "toy/catch", ["env.protocl=x"], {})


def test_every_preset_says_what_it_is_and_has_a_default_environment() -> None:
    assert set(presets()) >= {
        "dqn",
        "drqn",
        "r2d2",
        "rainbow",
        "iqn",
        "a2c",
        "a3c",
        "impala",
        "planet",
        "dreamerv1",
        "dreamerv2",
        "harmonydream",
    }
    for agent, names in presets().items():
        assert names[0] == "cpu"
        assert list(presets_of(agent)) == names
        for name in names:
            assert 20 < len(describe(agent, name)) <= 160
            config = make_config(agent, name)
            assert (config.name, config.preset) == (agent, name)
            assert config.env.id
