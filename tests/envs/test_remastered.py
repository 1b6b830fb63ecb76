"""Varied looks of DeepMind Control: the same physics, looks as functions of their seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.agents.dreamerv2 import DreamerV2Config
from reverie.agents.harmonydream import HarmonyDreamConfig
from reverie.envs import remastered
from reverie.envs.control import PROPRIO, REMASTERED, VISION, Control, _suite, choose_gl
from reverie.envs.make import make_env
from reverie.envs.remastered import FACTORS, with_body_texture
from reverie.envs.vector import SyncVector
from reverie.errors import UserError
from reverie.presets import make_config

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OSMesa or EGL library to render with")

DOMAINS = {domain: task for domain, task in _suite().ALL_TASKS if domain != "dog"}
"""Every domain with one of its tasks; dogs, which take seconds to load, have the same materials and a skin."""


def unseen(domain: str = "cheetah", task: str = "", **options: Any) -> Control:
    """A varied task whose observations are vectors, so that nothing is drawn by a renderer."""
    return Control(domain, task or DOMAINS[domain], replace(PROPRIO, **{"vary": FACTORS, **options}))


def model_of(env: Control) -> Any:
    return env._env.physics.model


def look(env: Control) -> dict[str, np.ndarray]:
    """Everything that may vary, copied; of cameras and lights also where they are."""
    model, data = model_of(env), env._env.physics.data
    fields = {name: np.array(getattr(model, name)) for name in remastered._CHANGED}
    for name in remastered._HEADLIGHT:
        fields[f"headlight_{name}"] = np.array(getattr(model.vis.headlight, name))
    for name in ("cam_xpos", "cam_xmat", "light_xpos", "light_xdir"):
        fields[name] = np.array(getattr(data, name))
    for i in range(model.ntex):
        size = int(model.tex_height[i] * model.tex_width[i] * model.tex_nchannel[i])
        fields[f"texture {model.tex(i).name}"] = np.array(model.tex_data[model.tex_adr[i] :][:size])
    return fields


def changed(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> set[str]:
    assert set(a) == set(b)
    return {name for name in a if a[name].shape != b[name].shape or (a[name] != b[name]).any()}


@pytest.mark.parametrize("domain", DOMAINS)
def test_physics_are_those_of_the_plain_task(domain: str) -> None:
    plain, varied = Control(domain, DOMAINS[domain], PROPRIO), unseen(domain)
    rng = np.random.default_rng(0)
    space = plain.action_space
    for seed in (0, None):
        a, b = plain.reset(seed=seed)[0], varied.reset(seed=seed)[0]
        for _ in range(12):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
            action = rng.uniform(space.low, space.high).astype(np.float32)
            a, *earned, _ = plain.step(action)
            b, *same, _ = varied.step(action)
            assert earned == same
        np.testing.assert_array_equal(plain._env.physics.get_state(), varied._env.physics.get_state())
        if seed is not None:
            # Both draw the next episode's seed themselves; a look took one number more.
            plain.np_random.integers(2)
            varied.np_random.bit_generator.state = plain.np_random.bit_generator.state


@pytest.mark.parametrize("domain", ["cheetah", "swimmer", "manipulator"])
def test_a_look_is_a_function_of_the_reset_seed_alone(domain: str) -> None:
    env, other = unseen(domain), unseen(domain)
    env.reset(seed=3)
    first = look(env)
    env.reset(seed=4)
    assert len(changed(first, look(env))) > 10
    env.step(np.zeros(env.action_space.shape, np.float32))
    env.reset(seed=3)
    assert changed(first, look(env)) == set()
    other.reset(seed=3)
    assert changed(first, look(other)) == set()


@pytest.mark.parametrize(
    ("factor", "fields"),
    [
        ("background", {"texture skybox"}),
        ("floor", {"texture grid"}),
        ("body", {"texture remastered_body", "mat_rgba"}),
        ("target", {"mat_rgba"}),
        ("reflectance", {"mat_specular", "mat_shininess", "mat_reflectance"}),
        (
            "light",
            {"light_diffuse", "light_specular", "light_poscom0", "light_dir0", "light_xpos", "light_xdir"}
            | {"headlight_ambient", "headlight_diffuse"},
        ),
        ("camera", {"cam_poscom0", "cam_quat", "cam_mat0", "cam_fovy", "cam_xpos", "cam_xmat"}),
    ],
)
def test_every_factor_changes_its_own_fields_and_looks_the_same_without_the_others(
    factor: str, fields: set[str]
) -> None:
    lone, full = unseen(vary=(factor,)), unseen()
    before = look(lone)
    assert lone._visuals is not None
    assert full._visuals is not None
    lone._visuals.draw(7)
    after = look(lone)
    assert changed(before, after) == fields
    full._visuals.draw(7)
    everything = look(full)
    for name in fields - {"mat_rgba"}:
        np.testing.assert_array_equal(after[name], everything[name], err_msg=name)
    model = model_of(lone)
    own = {model.mat(i).name for i in np.flatnonzero((before["mat_rgba"] != after["mat_rgba"]).any(axis=1))}
    assert own == set(remastered.MATERIALS.get(factor, ())) & own
    np.testing.assert_array_equal(before["mat_rgba"][:, 3], after["mat_rgba"][:, 3])
    assert np.isfinite(np.concatenate([value.ravel() for value in everything.values()])).all()


def test_visual_seeds_are_fresh_or_from_a_pool() -> None:
    def seeds(count: int, **options: int) -> list[int | None]:
        env = unseen("pendulum", vary=("target",), **options)
        assert env.visual_seed is None
        drawn = []
        for seed in range(count):
            env.reset(seed=seed)
            drawn.append(env.visual_seed)
        return drawn

    assert len(set(seeds(40))) == 40
    assert seeds(40) == seeds(40)
    assert set(seeds(60, visual_seeds=4)) == {0, 1, 2, 3}
    assert set(seeds(60, visual_seeds=4, first_visual_seed=100)) == {100, 101, 102, 103}


def test_an_interrupted_episode_goes_on_with_its_look() -> None:
    def make() -> SyncVector:
        return SyncVector("varied", [unseen("point_mass") for _ in range(2)])

    env, other = make(), make()
    env.reset(1)
    for _ in range(510):  # into the second episode
        env.step(np.zeros((2, 2), np.float32))
    other.load_state_dict(env.state_dict())
    for a, b in zip(env.envs, other.envs, strict=True):
        assert isinstance(a, Control)
        assert isinstance(b, Control)
        assert a.visual_seed == b.visual_seed
        assert changed(look(a), look(b)) == set()


def test_only_varied_bodies_get_a_texture_and_the_suite_stays_as_it_was() -> None:
    # Imported here: the renderer must be chosen before anything of dm_control is.
    from dm_control.suite import common

    plain = dict(common.ASSETS)
    unseen("walker").reset(seed=0)
    assert plain == common.ASSETS
    with pytest.raises(ZeroDivisionError), with_body_texture():
        raise ZeroDivisionError
    assert plain == common.ASSETS
    for env in (unseen("walker", vary=("floor",)), Control("walker", "walk", PROPRIO)):
        assert [model_of(env).tex(i).name for i in range(model_of(env).ntex)] == ["skybox", "grid"]


def test_models_drawn_when_loaded_are_the_same_everywhere() -> None:
    a, b = (Control("lqr", "lqr_6_2", PROPRIO) for _ in range(2))
    np.testing.assert_array_equal(model_of(a).jnt_stiffness, model_of(b).jnt_stiffness)


def test_mistakes_are_named() -> None:
    for options, words in (
        ({"vary": ["flor"]}, "factor 'flor'; did you mean floor"),
        ({"vary": "floor"}, r"a list of text, such as \[floor\]"),
        ({"visual_seeds": -1}, "at least 0"),
        ({"first_visual_seed": 3}, "needs visual_seeds"),
        ({"protocol": "dmc-proprio", "vary": ["floor"]}, "use protocol dmc-remastered"),
    ):
        with pytest.raises(UserError, match=words):
            make_env("dmc/cheetah-run", **{"protocol": "dmc-remastered", **options})  # type: ignore[arg-type]


def test_presets_hold_the_published_numbers() -> None:
    for agent in ("dreamerv2", "harmonydream"):
        config = make_config(agent, "dmc-remastered")
        assert (config.name, config.preset, config.env.protocol) == (agent, "dmc-remastered", "dmc-remastered")
        assert config.env.id == "dmc/cheetah-run"
        assert isinstance(config.agent, DreamerV2Config)
        assert isinstance(config.agent, HarmonyDreamConfig) == (agent == "harmonydream")
        assert (config.agent.rssm.deter, config.agent.rssm.hidden) == (1024, 1024)
        assert (config.agent.kl_free, config.agent.kl_scale, config.agent.gamma) == (1.0, 1.0, 0.99)
        assert (config.replay.batch, config.replay.window.learn, config.run.frames) == (16, 50, 1_004_000)
        assert config.run.train_ratio == 16 * 50 / 5


@needs_gl
def test_pictures_have_the_look_of_their_episode() -> None:
    cheap = replace(VISION, render="cheap")

    def first(env: Control, seed: int) -> np.ndarray:
        picture: np.ndarray = env.reset(seed=seed)[0]
        assert env.observation_space.contains(picture)
        return picture

    one, plain = Control("cheetah", "run", replace(REMASTERED, render="cheap")), Control("cheetah", "run", cheap)
    pictures = [first(one, seed) for seed in (0, 1, 0)]
    assert (np.abs(pictures[0].astype(int) - pictures[1]).max(axis=-1) > 20).mean() > 0.5
    np.testing.assert_array_equal(pictures[0], pictures[2])
    np.testing.assert_array_equal(pictures[1], first(Control("cheetah", "run", replace(cheap, vary=FACTORS)), 1))
    usual = first(plain, 0)
    for factor, differs in (("background", True), ("target", False)):  # cheetahs have none
        env = Control("cheetah", "run", replace(cheap, vary=(factor,)))
        assert (first(env, 0) != usual).any() == differs
        env.close()
    for env in (one, plain):
        env.close()


@needs_gl
def test_a_white_texture_is_no_texture() -> None:
    cheap = replace(VISION, render="cheap")
    plain, varied = Control("walker", "walk", cheap), Control("walker", "walk", replace(cheap, vary=("body",)))
    assert varied._visuals is not None
    varied._visuals = None
    np.testing.assert_array_equal(plain.reset(seed=0)[0], varied.reset(seed=0)[0])
    plain.close()
    varied.close()


@needs_gl
def test_an_interrupted_stream_shows_the_same_pictures() -> None:
    def make(**options: Any) -> SyncVector:
        env = make_env("dmc/reacher-easy", num_envs=2, protocol="dmc-remastered", render="cheap", **options)
        assert isinstance(env, SyncVector)
        return env

    env, other = make(), make()
    assert env.spec.flags["vary"] == FACTORS
    env.reset(1)
    action = np.full((2, 2), 0.3, np.float32)
    for _ in range(3):
        env.step(action)
    other.load_state_dict(env.state_dict())
    for _ in range(3):
        a, b = env.step(action).rows, other.step(action).rows
        np.testing.assert_array_equal(a["obs.image"], b["obs.image"])
        assert (a["obs.image"][0] != a["obs.image"][1]).any()
    env.close()
    other.close()
