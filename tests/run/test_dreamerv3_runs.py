"""Runs of both DreamerV3s: stopped and crashed they go on exactly, states written back included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Crash, Never, Stop, again, assert_same_run, begin, final, lines

import reverie
from reverie import overrides
from reverie.agents.dreamer_sizes import Size, Size2023
from reverie.config import Config
from reverie.errors import UserError
from reverie.play.model import first_states, load_model
from reverie.presets import make_config, presets_of
from reverie.run.build import build_agent, build_env, build_learner
from reverie.run.configure import configure
from reverie.run.saved_config import load_config, save_config
from tests.agents.v3 import LEAST, LEAST_2023

LEAST_SIZES: dict[type, Any] = {Size: LEAST, Size2023: LEAST_2023}
SMALL: dict[str, Any] = {
    "agent.horizon": 3,
    "env.num_envs": 2,
    "replay.batch": 2,
    "replay.window.learn": 4,
    "replay.store.chunk": 16,
    "replay.store.budget": 1_000_000,
    "run.threads": 1,
    "run.env_steps": 90,
    "run.prefill": 20,
    "run.train_ratio": 4.0,
    "run.log_every": 10,
    "run.checkpoint_every": 20,
    "run.eval_every": 0,
    "run.eval_episodes": 2,
    "run.eval_envs": 2,
}
VERSIONS = ("dreamerv3-2023", "dreamerv3")


def small(agent: str, preset: str = "cpu", env: str = "toy/catch", **changes: Any) -> Config:
    """A preset with the least networks and the shortest run. changes: ``run__seed=1`` for ``run.seed``."""
    config = make_config(agent, preset, env)
    base = next(least for kind, least in LEAST_SIZES.items() if isinstance(config.agent.size, kind))
    sizes = {f"agent.size.{name}": value for name, value in vars(base).items()}
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return overrides.apply(config, {**sizes, **SMALL, **dotted})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each version that nobody interrupts."""
    folder = tmp_path_factory.mktemp("alone")
    for agent in VERSIONS:
        begin(small(agent), folder / agent).train(Never())
    return {agent: folder / agent for agent in VERSIONS}


@pytest.mark.parametrize("agent", VERSIONS)
def test_stopped_and_crashed_runs_go_on_exactly(agent: str, tmp_path: Path, alone: dict[str, Path]) -> None:
    run = begin(small(agent), tmp_path / "run")
    run.train(Stop(run, 31))
    run = again(small(agent), tmp_path / "run")
    with pytest.raises(Crash):
        run.train(Stop(run, 55, crash=True))
    again(small(agent), tmp_path / "run").train(Never())
    assert_same_run(alone[agent], tmp_path / "run")


def test_states_that_were_written_back_are_in_a_checkpoint_and_matter(tmp_path: Path, alone: dict[str, Path]) -> None:
    """The negative control: with the actor's states in their place, what follows is another run."""
    run = begin(small("dreamerv3"), tmp_path / "run")
    run.train(Stop(run, 60))
    run = again(small("dreamerv3"), tmp_path / "run")
    refreshed = run.store.replay._states._refreshed
    assert refreshed.sum() > 40
    for name in run.store.replay._states.spec:
        run.store.replay._states._rings.data[name][torch.from_numpy(np.flatnonzero(refreshed))] = 0.0
    run.train(Never())
    assert final(tmp_path / "run") != final(alone["dreamerv3"])


@pytest.mark.parametrize("agent", VERSIONS)
def test_what_was_trained_can_be_played_and_dreamed(agent: str, alone: dict[str, Path]) -> None:
    policy = reverie.load(alone[agent])
    action, state = policy.act(np.zeros((32, 32, 1), np.uint8), policy.initial_state(1))
    assert int(action) in range(3)
    assert set(state) == {"deter", "stoch", "prev_action", "is_first"}
    loaded = load_model(alone[agent], "cpu", 0)
    assert loaded.images == ["image"]
    told = loaded.model.tell(first_states(loaded, 3, 0))
    assert told["obs.image"].shape == (3, 32, 32, 1)
    assert told["obs.image"].dtype == torch.uint8
    assert told["continuation"].min() > 0


@pytest.mark.parametrize("base", VERSIONS)
def test_harmony_over_both_goes_on_exactly(base: str, tmp_path: Path) -> None:
    """Its presets are the base's, its saved configuration is of the base's class, its scales are saved."""
    words = [f"--agent.base={base}", "--run.env_steps=60", "--agent.entropy=0.02"]
    words += [f"--{key}={value}" for key, value in SMALL.items() if key != "run.env_steps"]
    least = LEAST if base == "dreamerv3" else LEAST_2023
    words += [f"--agent.size.{name}={value}" for name, value in vars(least).items()]
    settings = configure("harmonydream", "cpu", "toy/catch", words, {})
    assert (settings.name, settings.agent.base, settings.agent.balance) == ("harmonydream", base, "harmony")
    begin(settings, tmp_path / "whole").train(Never())
    run = begin(settings, tmp_path / "run")
    run.train(Stop(run, 41))
    assert load_config(tmp_path / "run") == settings
    again(load_config(tmp_path / "run"), tmp_path / "run").train(Never())
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    scales = [leaf for path, leaf in final(tmp_path / "run").items() if path.endswith("balancer.log_sigma")]
    assert len(scales) == 1
    assert load_model(tmp_path / "run", "cpu", 0).images == ["image"]
    assert list(presets_of("harmonydream", base)) == list(presets_of(base))


def test_a_harmonised_run_from_before_there_was_a_base_is_over_dreamerv2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_config("harmonydream", "cpu", "toy/catch")
    save_config(settings, tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["config"]["agent"].pop("base") == "dreamerv2"
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert load_config(tmp_path) == settings
    assert "lacks 1 keys, which take their defaults: agent.base = dreamerv2" in capsys.readouterr().err


def test_a_base_that_is_none_is_answered_with_near_names() -> None:
    with pytest.raises(UserError, match=r"agent\.base = 'dreamer3' cannot be harmonised"):
        configure("harmonydream", None, "toy/catch", ["--agent.base=dreamer3"], {})
    with pytest.raises(UserError, match=r"unknown key 'agent\.base'"):
        configure("dreamerv3", None, "toy/catch", ["--agent.base=dreamerv2"], {})


@pytest.mark.parametrize("agent", VERSIONS)
def test_one_set_of_numbers_for_all_kinds(agent: str) -> None:
    configs = [make_config(agent, "cpu", env) for env in ("toy/catch", "CartPole-v1", "Pendulum-v1")]
    assert configs[0].agent == configs[1].agent == configs[2].agent
    assert configs[0].replay == configs[1].replay == configs[2].replay
    assert configs[0].run == configs[1].run == configs[2].run
    pytest.importorskip("dm_control")
    control = make_config(agent, "cpu", "dmc/cartpole-swingup")
    assert (control.agent, control.replay) == (configs[0].agent, configs[0].replay)
    assert control.env.options == {"size": 32, "render": "smooth", "action_repeat": 8}
    assert (control.run.env_steps, control.run.prefill, control.run.train_ratio) == (6000, 625, 256.0)


def test_presets_say_what_their_source_says() -> None:
    atari, paper, first = (
        make_config("dreamerv3", "atari"),
        make_config("dreamerv3", "atari100k-paper"),
        make_config("dreamerv3-2023", "atari100k"),
    )
    assert (atari.run.train_ratio, paper.run.train_ratio, first.run.train_ratio) == (32.0, 128.0, 1024.0)
    assert (atari.env.num_envs, atari.env.options) == (16, {"size": 96, "full_actions": True})
    assert (first.replay.batch, first.replay.window.learn, first.replay.window.state) == (16, 64, "zero")
    assert (atari.replay.window.learn, atari.replay.window.state) == (64, "stored")
    assert (paper.env.options, first.env.options) == ({"noop_max": 30}, {})  # 29 are the protocol's, as in 2023
    assert make_config("dreamerv3", "dmc-vision").env.options == {"action_repeat": 1}
    assert make_config("dreamerv3", "dmc-vision-paper").env.options == {}
    env = build_env(small("dreamerv3"), 1)
    agent = build_agent(small("dreamerv3"), env.spec)
    learner = build_learner(small("dreamerv3"), agent, torch.device("cpu"))
    assert learner.windows.state == "stored"
