"""Meta-world: states and pixels, action repeat, success at any step and at the last, places by the seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("metaworld")

from reverie.envs.control import choose_gl
from reverie.envs.make import env_names, make_env, protocols
from reverie.envs.metaworld import CORNER2, PROTOCOLS, STATES, VISION, Metaworld
from reverie.errors import UserError
from reverie.presets import make_config
from tests.envs.goes_on import goes_on_exactly

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")
LEVER = "metaworld/lever-pull"
SMALL = {"render": "cheap", "size": 32}


def actions(env_steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (env_steps, 4)).astype(np.float32)


def test_states_are_the_package_s_own_and_every_action_is_repeated() -> None:
    env, plain = (Metaworld("reach", protocol) for protocol in (PROTOCOLS["metaworld-tdmpc2"], STATES))
    seen, _ = env.reset(seed=3)
    np.testing.assert_array_equal(seen, plain.reset(seed=3)[0])
    assert (seen.shape, seen.dtype) == ((39,), np.float32)
    assert seen[-3:].any(), "the goal is observed"
    plain.step(np.zeros(4, np.float32))  # which TD-MPC2 makes before the first action
    for t, action in enumerate(actions(100)):
        (_, one, *_), (state, two, *_) = plain.step(action), plain.step(action)
        seen, reward, terminated, truncated, info = env.step(action)
        assert reward == pytest.approx(one + two)
        np.testing.assert_array_equal(seen, state)
        assert (terminated, truncated) == (False, t == 99)
    assert set(info["episode_info"]) == {"success", "success_last"}


def test_success_at_any_step_and_at_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Metaworld("reach", PROTOCOLS["metaworld-tdmpc2"])
    told = iter([0.0, 1.0, *[0.0] * 198, *[0.0] * 199, 1.0, *[0.0] * 200])
    monkeypatch.setattr(env, "simulate", lambda action: (np.zeros(39), 0.5, next(told)))
    expected = [(1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]
    for any_step, last in expected:
        env.reset(seed=0)
        infos = [env.step(np.zeros(4, np.float32))[-1] for _ in range(100)]
        assert infos[:-1] == [{}] * 99
        assert infos[-1] == {"episode_info": {"success": any_step, "success_last": last}}


def test_success_is_the_task_s_own() -> None:
    from metaworld.policies import SawyerReachV3Policy

    env, policy = Metaworld("reach", STATES), SawyerReachV3Policy()
    state, _ = env.reset(seed=1)
    info: dict[str, Any] = {}
    while not info:
        state, *_, info = env.step(np.clip(policy.get_action(state.astype(float)), -1, 1).astype(np.float32))
    assert info["episode_info"] == {"success": 1.0, "success_last": 1.0}


def test_places_are_drawn_from_the_seed_or_fixed() -> None:
    env, other = Metaworld("push", STATES), Metaworld("push", STATES)
    first = env.reset(seed=4)[0]
    for action in actions(30):
        env.step(action)
    np.random.seed(0)  # noqa: NPY002 - the generator that the package would draw from by itself
    np.testing.assert_array_equal(env.reset(seed=4)[0], first)
    np.testing.assert_array_equal(other.reset(seed=4)[0], first)
    assert (env.reset(seed=5)[0][-3:] != first[-3:]).any()
    fixed = Metaworld("push", replace(STATES, goals="fixed"))
    np.testing.assert_array_equal(fixed.reset(seed=4)[0], fixed.reset(seed=5)[0])


@needs_gl
def test_pixels_go_on_exactly_and_are_turned() -> None:
    frames = goes_on_exactly(lambda: make_env(LEVER, **SMALL), 3)["obs.image"]
    assert frames.shape[2:] == (32, 32, 3)
    assert len({frame.tobytes() for frame in frames[:, 0]}) == 3
    arm = Metaworld("lever-pull", replace(VISION, render="cheap", size=32))
    turned, _ = arm.reset(seed=0)
    arm._protocol = replace(VISION, flip=False)
    np.testing.assert_array_equal(arm.render(), turned[::-1])
    arm.close()


def test_the_second_corner_is_moved() -> None:
    arm = Metaworld("lever-pull", replace(STATES, camera="corner2"))
    arm.reset(seed=0)
    np.testing.assert_allclose(arm._env.data.camera("corner2").xpos, CORNER2)


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for id, options, words in (
        ("metaworld/lever-pul", {}, "metaworld/lever-pull"),
        (LEVER, {"camera": "corner9"}, "'corner9'"),
        (LEVER, {"length": 0}, "length 0 must be at least 1"),
        (LEVER, {"settle": -1, "protocol": "metaworld-state"}, "settle -1"),
        (LEVER, {"pixels": True}, "no option 'pixels'"),
    ):
        with pytest.raises(UserError, match=words):
            make_env(id, **options)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reverie-rl\[metaworld\]"):
        make_env(LEVER)


def test_listing_and_presets() -> None:
    assert protocols(LEVER) == ("metaworld", "metaworld-state", "metaworld-tdmpc2")
    listed = env_names()["metaworld"]
    assert len(listed) == 50
    assert {LEVER, "metaworld/handle-pull-side", "metaworld/hammer"} <= set(listed)
    for agent, base in (("dreamerv2", None), ("harmonydream", None), ("harmonydream", "dreamerv3-2023")):
        config = make_config(agent, "metaworld", base=base)
        assert (config.env.id, config.env.protocol) == (LEVER, "metaworld")
        assert (config.replay.batch, config.replay.window.learn) == (50, 50)
        # an update of 2500 rows per 5 env_steps
        assert (config.run.env_steps or config.run.frames, config.run.train_ratio) == (255_000, 500.0)
        assert (config.run.eval_every, config.run.eval_episodes) == (10_000, 10)
    agent = make_config("dreamerv2", "metaworld").agent
    assert (agent.rssm.deter, agent.rssm.hidden, agent.kl_free, agent.kl_scale) == (1024, 1024, 0.0, 1.0)
    assert (agent.gamma, agent.entropy, agent.predict_discount) == (0.99, 1e-4, False)
    assert (agent.model_opt.lr, agent.actor_opt.lr, agent.critic_opt.lr) == (3e-4, 8e-5, 8e-5)
    planner = make_config("tdmpc2", "metaworld")
    # (100 / 5 - 1) / (100 / 5); five episodes at random are fewer than a thousand env_steps
    assert (planner.agent.gamma, planner.run.prefill, planner.run.frames) == (0.95, 1000, 2_000_000)
    assert planner.env.protocol == "metaworld-tdmpc2"
    then = make_config("dreamerv3-2023", "metaworld")
    # 5000 windows of 50 rows in 5 streams, each of which has 49 fewer than its rows
    assert (then.run.prefill, then.agent.grad_heads) == (5000 + 5 * 49, ("decoder", "reward"))
    size = then.agent.size
    assert (size.deter, size.units, size.depth, size.layers) == (1024, 640, 48, 3)
    assert (VISION.camera, VISION.length, VISION.action_repeat, VISION.goals) == ("corner", 500, 1, "random")
