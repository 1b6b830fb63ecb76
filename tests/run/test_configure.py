"""Words of a command line become a configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import reverie
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.run.build import build_agent, build_windows, env_spec
from reverie.run.configure import configure


@pytest.mark.parametrize("agent", ["dqn", "drqn", "r2d2"])
def test_a_length_in_frames_replaces_one_in_env_steps(agent: str) -> None:
    preset = configure(agent, "cpu", "toy/catch", [], {}).run
    assert preset.env_steps is not None
    short = configure(agent, "cpu", "toy/catch", [], {"frames": "1500"}).run
    long_form = configure(agent, "cpu", "toy/catch", ["run.frames=1500"], {}).run
    assert short == long_form
    assert (short.frames, short.env_steps) == (1500, None)


@pytest.mark.parametrize(
    ("words", "short", "said"),
    [
        (["run.seed=1"], {"seed": "2"}, "--seed and run.seed are both given"),
        (["run.env_steps=40"], {"frames": "50"}, "run.frames and run.env_steps both say how long"),
        (["run.frames=1500", "run.env_steps=700"], {}, "run.frames and run.env_steps both say how long"),
        (["env.id=CartPole-v1"], {}, "--env and env.id are both given"),
    ],
)
def test_what_is_said_twice_is_refused(words: list[str], short: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configure("dqn", "cpu", "toy/catch", words, short)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "run.seed: 1\nrun: {seed: 2}\n", "run.seed is given twice"),
        ("a.yaml", "run: {seed: 1, seed: 2}\n", "'seed' is given twice"),
        ("a.json", '{"run": {"seed": 1, "seed": 2}}', "'seed' is given twice"),
        ("a.yaml", "preset: atari\n", "is of the preset atari, not of cpu"),
    ],
)
def test_a_file_says_each_key_once(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        configure("dqn", "cpu", "toy/catch", [], {}, tmp_path / name)


@pytest.mark.parametrize(
    ("agent", "word", "said"),
    [
        ("dreamerv2", "agent.gamma=1.5", "agent.gamma = '1.5' is not a float above 0 and of at most 1"),
        ("dreamerv2", "agent.lam=nan", "is not a float from 0 to 1"),
        ("dreamerv2", "agent.kl_balance=2", "is not a float from 0 to 1 or none"),
        ("dreamerv2", "agent.kl_scale=inf", "is not a float of at least 0"),
        ("dreamerv2", "agent.grad_heads=[foo]", "is not a list of one of decoder, reward, discount"),
        ("dreamerv2", "agent.target_every=0", "is not an int of at least 1"),
        ("dreamerv2", "agent.rssm.act=foo", "is not one of elu, relu, silu, tanh"),
        ("dreamerv2", "agent.actor.layers=-1", "is not an int of at least 0"),
        ("dreamerv3", "agent.slow_fraction=5", "is not a float from 0 to 1"),
        ("dreamerv3", "agent.size.blocks=0", "is not an int of at least 1"),
        ("plan2explore", "agent.members=1", "is not an int of at least 2"),
        ("rainbow", "agent.v_max=nan", "is not a float"),
        ("rainbow", "agent.sigma=nan", "is not a float of at least 0"),
        ("dreamerv1", "agent.min_std=-1", "is not a float of at least 0"),
        ("impala", "agent.popart_step=nan", "is not a float from 0 to 1"),
        ("dqn", "env.num_envs=0", "num_envs must be at least 1"),
        ("dqn", "replay.store.budget=-inf", "budget = '-inf' is not"),
        ("dqn", "agent.opt.clip=-1", "clip must be above 0"),
        ("dqn", "agent.opt.lr_end=-5", "lr_end must be at least 0"),
        ("dreamerv1", "agent.continuous=normal", "is not one of trunc_normal, tanh_normal"),
        ("dreamerv2", "agent.continuous=normal", "is not one of trunc_normal, tanh_normal"),
        ("impala", "agent.continuous=normal", "is not one of trunc_normal, tanh_normal"),
        ("dreamerv2", "agent.entropy_end=1e-4", "entropy_end = 1e-4 would not be reached: agent.entropy_over is 0"),
        ("dqn", "agent.opt.shrink=2", "shrink must be at least 0 and below 1"),
        ("dqn", "agent.torso.units=0", "is not an int of at least 1"),
        ("dqn", "run.threads=100000", "threads must be at most 1024"),
        ("dqn", "run.env_steps=9999999999999999999999", "env_steps must be at most 9007199254740992"),
        ("dqn", "replay.store.budget=inf", "budget = 'inf' is not"),
        ("dqn", "replay.store.budget=1e30", "budget = '1e30' is not"),
    ],
)
def test_numbers_have_bounds(agent: str, word: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        configure(agent, "cpu", "CartPole-v1", [word], {})


def test_both_ends_of_a_schedule_that_are_written_out_are_no_mistake() -> None:
    """As `reverie config r2d2 --yaml` writes them."""
    words = ["agent.n_step_end=1", "agent.n_step_over=0"]
    assert configure("r2d2", None, "CartPole-v1", words, {}).agent.n_step_over == 0


def test_what_was_made_in_python_has_the_same_bounds(tmp_path: Path) -> None:
    config = make_config("dreamerv2", "cpu", "toy/catch")
    wrong = replace(config, agent=replace(config.agent, entropy=-0.01))
    with pytest.raises(UserError, match=re.escape("agent.entropy = -0.01 (float) is not a float of at least 0")):
        reverie.train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_command_that_says_the_other_length_is_none_is_taken() -> None:
    """As a refused command proposes it, where a preset has its length in the other unit."""
    run = configure("dqn", "cpu", "toy/catch", ["run.frames=1500", "run.env_steps=none"], {}).run
    assert (run.frames, run.env_steps) == (1500, None)


@pytest.mark.parametrize(
    ("agent", "env", "words"),
    [
        ("dreamerv3", "CartPole-v1", []),
        ("r2dreamer", "toy/catch", []),
        ("dreamerpro", "toy/catch", []),
        ("planet", "Pendulum-v1", ["agent.overshooting=2"]),
        ("harmonydream", "CartPole-v1", ["agent.base=dreamerv3"]),
    ],
)
def test_windows_too_short_for_the_losses_are_one_line(agent: str, env: str, words: list[str]) -> None:
    config = configure(agent, "cpu", env, [*words, "replay.window.learn=1"], {})
    with pytest.raises(UserError, match=r"replay.window.learn must be at least 2 here, got 1"):
        build_windows(config, build_agent(config, env_spec(config)))
