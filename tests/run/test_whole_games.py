"""Evaluations play whole games where training ends an episode at a lost life: stacks and memories go on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ale_py")

import reverie
from reverie.envs.make import make_env
from reverie.envs.tasks import Tasks
from reverie.play.envs import build_world, carried_of
from reverie.run import evaluation
from reverie.run.build import build_env, env_spec
from tests.envs.test_atari import play


def test_evaluations_are_of_whole_games(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = reverie.make_config("dqn", "atari", "ALE/Breakout-v5", options={"threads": 1})
    config = replace(config, run=replace(config.run, eval_envs=1))
    assert env_spec(config).flags["life_loss"]
    nowhere = tmp_path_factory.mktemp("run")
    games = make_env("ALE/Breakout-v5", protocol="atari-dqn2015", life_loss=False, threads=1)
    games.reset(0)
    expected = play(games, 300, np.random.default_rng(1))
    for env in (evaluation._environments(config, None), build_world(config, 1, carried_of(nowhere), whole=True)):
        assert not env.spec.flags["life_loss"]
        env.reset(0)
        assert play(env, 300, np.random.default_rng(1)) == expected
    with_lives = build_env(config, 1)
    with_lives.reset(0)
    assert play(with_lives, 300, np.random.default_rng(1)) != expected


def test_each_of_several_environments_has_its_own_way() -> None:
    """A game loses no life; a toy, which knows of no lives, is made as it was."""
    config = reverie.make_config("impala", "atari", "ALE/Breakout-v5,ALE/Pong-v5", options={"threads": 1})
    env = build_env(config, 2, whole=True)
    assert isinstance(env, Tasks)
    assert [one.spec.flags["life_loss"] for one in env.envs] == [False, False]
    toy = build_env(reverie.make_config("dqn", "cpu", "toy/catch"), 1, whole=True)
    assert toy.spec.id == "toy/catch"
