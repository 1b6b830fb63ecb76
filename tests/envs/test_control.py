"""DeepMind Control: spaces, action repeat, time limits, exact resumption, and all ways of rendering."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.envs.control import Control, choose_gl
from reverie.envs.env import VectorEnv
from reverie.envs.make import env_names, make_env, protocols
from reverie.errors import UserError

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")


def actions(env: VectorEnv, env_steps: int, seed: int) -> np.ndarray:
    shape = env.spec.action.shape or ()
    return np.random.default_rng(seed).uniform(-1, 1, (env_steps, env.num_envs, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("id", "shapes"),
    [
        ("dmc/walker-walk", {"obs.orientations": (14,), "obs.height": (1,), "obs.velocity": (9,)}),
        ("dmc/quadruped-walk", {"obs.torso_upright": (1,), "obs.imu": (6,)}),
    ],
)
def test_proprioception_is_a_dictionary_of_vectors(id: str, shapes: dict[str, tuple[int, ...]]) -> None:
    env = make_env(id, num_envs=2, protocol="dmc-proprio")
    rows = env.reset(0)
    assert {name: rows[name].shape[1:] for name in shapes} == shapes
    assert all(value.dtype == np.float32 for name, value in rows.items() if name.startswith("obs."))
    assert env.spec.action_repeat == 2


def test_rewards_are_summed_over_the_repeat_and_the_limit_is_no_end() -> None:
    env = make_env("dmc/cheetah-run", protocol="dmc-proprio")
    env.reset(3)
    assert isinstance(env, VectorEnv)
    plain = make_env("dmc/cheetah-run", protocol="dmc-proprio", action_repeat=1)
    plain.reset(3)
    played = actions(env, 500, 0)
    for t, action in enumerate(played):
        reward = sum(
            float((plain_step.rows if plain_step.ends is None else plain_step.ends)["reward"][0])
            for plain_step in (plain.step(action), plain.step(action))
        )
        step = env.step(action)
        rows = step.rows if step.ends is None else step.ends
        assert rows["reward"][0] == pytest.approx(reward, abs=1e-6)
        assert rows["is_last"][0] == (t == 499)
        assert not rows["is_terminal"][0]


def test_an_interrupted_episode_goes_on_exactly() -> None:
    env = make_env("dmc/finger-spin", num_envs=2, protocol="dmc-proprio")
    env.reset(1)
    played = actions(env, 60, 1)
    for action in played[:40]:
        env.step(action)
    other = make_env("dmc/finger-spin", num_envs=2, protocol="dmc-proprio")
    other.load_state_dict(env.state_dict())
    for action in played[40:]:
        a, b = env.step(action).rows, other.step(action).rows
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


@needs_gl
@pytest.mark.parametrize("render", ["published", "cheap", "smooth"])
def test_pictures_change_with_every_env_step(render: str) -> None:
    env = make_env("dmc/walker-walk", render=render)
    assert env.spec.protocol == "dmc-vision"
    assert env.spec.flags["render"] == render
    frames = [env.reset(0)["obs.image"][0]]
    frames += [env.step(action).rows["obs.image"][0] for action in actions(env, 6, 0)]
    assert frames[0].shape == (64, 64, 3)
    assert frames[0].dtype == np.uint8
    assert len({frame.tobytes() for frame in frames}) == 7
    env.close()


@needs_gl
def test_quadrupeds_are_seen_by_their_own_camera() -> None:
    env = make_env("dmc/quadruped-walk", render="cheap")
    other = make_env("dmc/quadruped-walk", render="cheap", camera=2)
    zero = make_env("dmc/quadruped-walk", render="cheap", camera=0)
    np.testing.assert_array_equal(env.reset(0)["obs.image"], other.reset(0)["obs.image"])
    assert (env.reset(0)["obs.image"] != zero.reset(0)["obs.image"]).any()


@needs_gl
def test_a_task_that_asks_for_a_context_has_that_of_its_protocol() -> None:
    """It is told about its uneven ground when it begins an episode, before the first picture."""
    env = make_env("dmc/quadruped-escape", render="smooth", size=128)
    again = make_env("dmc/quadruped-escape", render="smooth", size=128)
    np.testing.assert_array_equal(env.reset(3)["obs.image"], again.reset(3)["obs.image"])
    context = env.envs[0].unwrapped._env.physics.contexts.mujoco.ptr  # type: ignore[attr-defined]
    assert (context.offWidth, context.offHeight, context.offSamples, context.shadowSize) == (512, 512, 0, 0)
    other = make_env("dmc/quadruped-escape", render="smooth", size=128)
    other.reset(3)
    for action in actions(env, 3, 0):
        env.step(action)
    other.load_state_dict(env.state_dict())


def test_where_nothing_is_drawn_no_context_is_made() -> None:
    env = make_env("dmc/quadruped-escape", protocol="dmc-proprio")
    env.reset(0)
    assert env.envs[0].unwrapped._env.physics._contexts is None  # type: ignore[attr-defined]


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in (
        ({"id": "dmc/walker-wlak"}, "dmc/walker-walk"),
        ({"id": "dmc/walker-walk", "rendr": "cheap"}, "did you mean render"),
        ({"id": "dmc/walker-walk", "render": "nice"}, "'nice'"),
    ):
        with pytest.raises(UserError, match=words):
            make_env(**options)  # type: ignore[arg-type]
    for name in ("MUJOCO_GL", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(UserError, match="libosmesa6"):
        make_env("dmc/walker-walk")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reverie-rl\[dmc\]"):
        make_env("dmc/walker-walk")


def test_listing() -> None:
    assert protocols("dmc/walker-walk") == ("dmc-vision", "dmc-proprio", "dmc-remastered")
    assert {"dmc/walker-walk", "dmc/ball_in_cup-catch", "dmc/quadruped-run"} <= set(env_names()["dmc"])
    assert Control.__doc__


@needs_gl
def test_what_is_closed_is_freed_in_the_thread_that_drew() -> None:
    """The collector, which runs in any thread, could not free its contexts."""
    left: list[object] = []

    def draws() -> None:
        env = make_env("dmc/pendulum-swingup", protocol="dmc-vision", size=16, render="cheap")
        env.reset(0)
        physics = env.envs[0]._env.physics  # type: ignore[attr-defined]
        left.append(physics._contexts)
        env.close()
        env.close()
        left.append(physics._contexts)

    thread = threading.Thread(target=draws)
    thread.start()
    thread.join()
    drew, closed = left
    assert drew is not None
    assert closed is None


def test_tasks_without_limits_of_their_actions_are_refused() -> None:
    """Their bounds are said to be 1e10: actions in [-1, 1] would be stretched to these."""
    assert not [name for name in env_names()["dmc"] if "lqr" in name]
    with pytest.raises(UserError, match="its actuators have no limits"):
        make_env("dmc/lqr-lqr_2_1", protocol="dmc-proprio")


@pytest.mark.parametrize(
    ("protocol", "options", "words"),
    [
        ("dmc-vision", {"visual_seeds": 7}, "visual_seeds 7 .* nothing does"),
        ("dmc-vision", {"visual_seeds": 7, "first_visual_seed": 2}, "nothing does"),
        ("dmc-proprio", {"size": 84, "render": "cheap"}, "size and render would change nothing"),
    ],
)
def test_options_that_would_change_nothing_are_refused(protocol: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_env("dmc/cartpole-balance", protocol=protocol, **options)  # type: ignore[arg-type]


def test_a_repeat_that_does_not_divide_an_episode_ends_with_it() -> None:
    """1000 control steps by threes: the last env_step has one of them, and no step of the next episode."""
    env = make_env("dmc/cheetah-run", protocol="dmc-proprio", action_repeat=3)
    env.reset(3)
    plain = make_env("dmc/cheetah-run", protocol="dmc-proprio", action_repeat=1)
    plain.reset(3)
    for t, action in enumerate(actions(env, 334, 0)):
        step = env.step(action[None] if action.ndim == 1 else action)
        for _ in range(3 if t < 333 else 1):
            once = plain.step(action[None] if action.ndim == 1 else action)
        assert (step.ends is not None) == (once.ends is not None) == (t == 333)
    assert step.ends is not None
    assert once.ends is not None
    assert step.ends["reward"][0] == once.ends["reward"][0]
