"""Every key tells what it means, in the words of its own class; configurations go to files and come back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from click.testing import CliRunner, Result

from reverie import overrides
from reverie.cli import cli
from reverie.errors import UserError
from reverie.keys import groups, meaning, source
from reverie.presets import make_config, presets
from reverie.run.config_file import as_json, as_yaml
from reverie.run.configure import configure

PRESETS = [(agent, name) for agent, names in presets().items() for name in names]


@dataclass(frozen=True)
class Parent:
    """What both have. lr, eps: of the optimiser. kind: ``a``: the first, or ``b``.

    deep: over two
        lines. Also: not a field.

    An unrelated paragraph.

    Source: Somebody 2020, section 3,
    and their code.
    """

    lr: float = 0.1
    eps: float = 0.2
    kind: Literal["a", "b"] = "a"
    deep: int = 3


@dataclass(frozen=True)
class Child(Parent):
    """*_scale: weights of the losses. lr: otherwise here."""

    reward_scale: float = 1.0
    threads: int = 0
    """CPU threads;
    0: all cores"""
    silent: int = 0


@dataclass(frozen=True)
class Silent:
    lr: float = 0.1


def test_meanings_are_those_of_the_docs() -> None:
    expected = {
        "lr": "otherwise here",
        "eps": "of the optimiser",
        "kind": "a: the first, or b",
        "deep": "over two lines. Also: not a field",
        "reward_scale": "weights of the losses",
        "threads": "CPU threads; 0: all cores",
        "silent": "",
    }
    assert {name: meaning(Child, name) for name in expected} == expected
    assert meaning(Parent, "lr") == "of the optimiser"
    assert meaning(Silent, "lr") == ""  # the signature that a dataclass without docs gets says nothing
    assert source(Child) == "Somebody 2020, section 3, and their code."


@pytest.mark.parametrize(("agent", "preset"), PRESETS)
def test_every_key_of_every_preset_has_a_meaning(agent: str, preset: str) -> None:
    config = make_config(agent, preset)
    all_groups = groups(config)
    keys = [key for group in all_groups for key in group.keys]
    assert {key.name: key.value for key in keys} == overrides.flatten(config)
    assert [f"{key.home}: {key.name}" for key in keys if not key.meaning] == []
    assert all(key.type for key in keys)


@pytest.mark.parametrize(
    ("agent", "preset"), [("dreamerv2", "dmc-remastered"), ("rainbow", "atari"), ("r2d2", "cpu-toy"), ("dqn", "atari")]
)
@pytest.mark.parametrize("form", [as_yaml, as_json])
def test_a_whole_file_gives_the_configuration_back(agent: str, preset: str, form: Any, tmp_path: Path) -> None:
    words = ["--agent.gamma", "0.5"] + (["--agent.opt.clip", "inf"] if agent != "dreamerv2" else [])
    env = "toy/catch" if preset == "cpu-toy" else None
    config = configure(agent, preset, env, words, {"seed": "3"})
    path = tmp_path / ("file.yaml" if form is as_yaml else "file.json")
    path.write_text(form(config))
    assert configure(None, None, None, [], {}, path) == config
    assert configure(agent, None, None, ["--run.seed=4"], {}, path).run.seed == 4


def test_a_part_of_the_keys_nested_or_dotted_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "file.yml"
    path.write_text(
        "env: {id: CartPole-v1, options: {mask: [1]}}\nagent.gamma: 0.5\nagent: {opt: {lr: 1e-5}, hidden: 16}\n"
        "replay.selector: {kind: prioritised, alpha: 0.9}\nrun: {env_steps: 500}\n"
    )
    config = configure("dqn", None, None, ["--agent.hidden=32", "--env.options.flicker", "0.5"], {"frames": "70"}, path)
    assert (config.agent.gamma, config.agent.opt.lr, config.agent.hidden) == (0.5, 1e-5, 32)
    assert (config.env.id, config.env.options) == ("CartPole-v1", {"mask": [1], "flicker": 0.5})
    assert vars(config.replay.selector) == {"alpha": 0.9, "floor": 1e-6, "whole": False}
    assert (config.run.frames, config.run.env_steps) == (70, None)
    assert configure("dqn", None, "Acrobot-v1", [], {}, path).env.id == "Acrobot-v1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "x = 1", "is read from .json, .yaml, .yml"),
        ("a.json", "{", "cannot be read: Expecting property name"),
        ("a.yaml", "a: [", "cannot be read: while parsing"),
        ("a.yaml", "- 1", "should hold keys and values"),
        ("a.yaml", "name: rainbow", "is of rainbow, not of dqn"),
        ("a.yaml", "agent: {gama: 1}", "unknown key 'agent.gama'; did you mean agent.gamma"),
        ("a.yaml", "agent: {gamma: high}", "agent.gamma = 'high' is not a float"),
        ("a.yaml", "preset: atary", "unknown preset 'atary' for dqn; did you mean atari"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        configure("dqn", None, "toy/catch", [], {}, tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def reverie(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_the_command_tells_keys_with_value_type_meaning_and_source() -> None:
    shown = reverie("config", "rainbow", "--preset", "atari", "--agent.gamma", "0.5").stdout
    assert shown.startswith("rainbow, preset atari, on ALE/Pong-v5\n")
    for line in (
        "  agent.gamma = 0.5   a float; default 0.99\n      discount\n",
        "agent.opt  (reverie.nets.optim.OptimConfig)\n",
        "  agent.opt.lr = 6.25e-05   a float\n      learning rate\n",
        "  Source: Hessel et al.",
        "  replay.selector.kind = prioritised   one of uniform, ends,",
    ):
        assert line in shown
    found = reverie("config", "rainbow", "--preset", "atari", "--find", "learning rate").stdout
    assert "agent.opt.lr = " in found
    assert "agent.gamma" not in found
    nothing = reverie("config", "rainbow", "--preset", "atari", "--find", "xyzzy")
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (2, 1)
    both = reverie("config", "rainbow", "--find", "epsilon", "--yaml")
    assert (both.exit_code, both.stderr) == (
        2,
        "reverie: error: --yaml writes all keys; leave --find or --yaml out\n",
    )


def test_the_command_tells_the_preset_over_the_base_that_was_asked_for() -> None:
    words = ["config", "harmonydream", "--preset", "atari100k", "--env", "toy/catch", "--agent.base"]
    for base, told in (("dreamerv3-2023", "DreamerV3 of 2023 on 100k"), ("dreamerv2", "DreamerV2 on 400k")):
        done = CliRunner().invoke(cli, [*words, base])
        assert (done.exit_code, told in " ".join(done.output.split())) == (0, True), done.output


def test_help_of_an_agent_tells_its_keys() -> None:
    done = reverie("train", "dreamerv2", "--preset=atari", "--help")
    assert done.exit_code == 0
    assert "--logdir" in done.stdout
    assert "  agent.rssm.deter = 600   an int of at least 1\n      GRU width\n" in done.stdout
    assert "agent.rssm" not in reverie("train", "--help").stdout


def test_files_out_are_files_in(tmp_path: Path) -> None:
    told = reverie("config", "dqn", "--env", "toy/catch", "--yaml").stdout
    path = tmp_path / "mine.yaml"
    path.write_text(told.replace("gamma: 0.97", "gamma: 0.5"))
    assert yaml.safe_load(path.read_text())["agent"]["gamma"] == 0.5
    again = json.loads(reverie("config", "dqn", "--config", str(path), "--json").stdout)
    assert (again["agent"]["gamma"], again["env"]["id"], again["preset"]) == (0.5, "toy/catch", "cpu")
    missing = reverie("train")
    assert (missing.exit_code, missing.stderr) == (
        2,
        "reverie: error: Missing argument 'AGENT'; see `reverie list agents`\n",
    )
