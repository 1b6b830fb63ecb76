"""Fetch: dictionaries in one vector, rewards, success, the goal in pictures, exact resumption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

import gymnasium

from reverie.envs.control import choose_gl
from reverie.envs.fetch import ORDER, PROTOCOLS, Fetch
from reverie.envs.make import env_names, make_env, protocols
from reverie.errors import UserError
from tests.envs.goes_on import goes_on_exactly

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")
SMALL = {"render": "cheap", "size": 32, "protocol": "fetch-vision"}


def test_states_are_the_package_s_dictionaries_in_the_stated_order() -> None:
    env = Fetch("push", PROTOCOLS["fetch"])
    plain = gymnasium.make("FetchPush-v4")
    seen, _ = env.reset(seed=2)
    # The package's episode of the seed that ours drew.
    seed = int(np.random.default_rng(np.random.SeedSequence(2)).integers(2**31))
    dictionary, _ = plain.reset(seed=seed)
    rng = np.random.default_rng(0)
    for t in range(50):
        np.testing.assert_allclose(seen, np.concatenate([dictionary[key] for key in ORDER]), rtol=1e-6)
        np.testing.assert_array_equal(seen[25:28], dictionary["achieved_goal"].astype(np.float32))
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        seen, reward, terminated, truncated, info = env.step(action)
        dictionary, theirs, *flags, _ = plain.step(action)
        assert (reward, [terminated, truncated]) == (theirs, flags)
        assert truncated == (t == 49)
    assert seen.dtype == np.float32
    assert set(info["episode_info"]) == {"success", "success_last"}


def test_success_is_the_goal_that_was_reached() -> None:
    env = Fetch("reach", PROTOCOLS["fetch"])
    state, _ = env.reset(seed=0)
    assert state.shape == (16,)
    info: dict[str, dict[str, float]] = {}
    rewards = []
    while not info:
        towards = np.append(10 * (state[-3:] - state[10:13]), 0.0).clip(-1, 1).astype(np.float32)
        state, reward, _, _, info = env.step(towards)
        rewards.append(reward)
    assert info["episode_info"] == {"success": 1.0, "success_last": 1.0}
    assert (rewards[0], rewards[-1]) == (-1.0, 0.0)


def test_an_interrupted_episode_goes_on_exactly() -> None:
    goes_on_exactly(lambda: make_env("fetch/pick-and-place"), 30)


@needs_gl
def test_pixels_show_the_goal_and_change_nothing() -> None:
    frames = goes_on_exactly(lambda: make_env("fetch/reach", **SMALL), 3)  # type: ignore[arg-type]
    assert len({frame.tobytes() for frame in frames["obs.image"][:, 0]}) == 3
    seen, blind = (Fetch("push", replace(PROTOCOLS["fetch"], render="cheap")) for _ in range(2))
    a, b = seen.reset(seed=1)[0], blind.reset(seed=1)[0]
    for _ in range(5):
        picture = seen.render()
        np.testing.assert_array_equal(a, b)
        a, b = (env.step(np.full(4, 0.5, np.float32))[0] for env in (seen, blind))
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    assert ((red > 150) & (green < 90) & (blue < 90)).sum() > 10
    assert picture.shape == (240, 320, 3)
    seen.close()


def test_the_dense_reward_is_the_distance() -> None:
    env = Fetch("reach", replace(PROTOCOLS["fetch"], reward="dense"))
    env.reset(seed=0)
    _, reward, *_ = env.step(np.ones(4, np.float32))
    data = env._env._get_obs()
    assert reward == pytest.approx(-np.linalg.norm(data["achieved_goal"] - data["desired_goal"]))
    env.close()


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for id, options, words in (
        ("fetch/pusch", {}, "fetch/push"),
        ("fetch/push", {"reward": "shaped"}, "'shaped'"),
        ("fetch/push", {"protocol": "fetch-pixels"}, "fetch-vision"),
    ):
        with pytest.raises(UserError, match=words):
            make_env(id, **options)  # type: ignore[arg-type]
    assert "Adroit" not in capfd.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reverie-rl\[fetch\]"):
        make_env("fetch/push")


def test_listing() -> None:
    assert protocols("fetch/push") == ("fetch", "fetch-vision")
    assert env_names()["fetch"] == ["fetch/pick-and-place", "fetch/push", "fetch/reach", "fetch/slide"]
