"""Dotted keys over nested frozen dataclasses: what a user may type, what is refused, and the exact way back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from reverie.errors import UserError
from reverie.overrides import Choice, apply, flatten, from_dict, lacking, parse, to_dict
from reverie.values import natural


@dataclass(frozen=True)
class Rssm:
    deter: int = 200
    classes: int = 32
    groups: int = 8

    def __post_init__(self) -> None:
        if self.deter % self.groups:
            raise ValueError(f"deter must be a multiple of groups, got {self.deter} and {self.groups}")


@dataclass(frozen=True)
class Harmony:
    rate: float = 0.5


@dataclass(frozen=True)
class Agent:
    rssm: Rssm = field(default_factory=Rssm)
    lr: float = 1e-4
    double: bool = False
    act: Literal["elu", "silu"] = "elu"
    layers: tuple[int, ...] = (400, 400)
    keys: tuple[str, ...] = ("image",)
    clip: float | None = 100.0
    harmony: Harmony | None = None
    heads: Annotated[int, Field(gt=0)] = 3


@dataclass(frozen=True)
class OtherAgent:
    deter: int = 7


@dataclass(frozen=True)
class Env:
    id: str = "memory"
    note: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (64, 64)


@dataclass(frozen=True)
class Draw:
    """What `Uniform` and `Weighted` have in common."""


@dataclass(frozen=True)
class Uniform(Draw):
    pass


@dataclass(frozen=True)
class Weighted(Draw):
    alpha: float = 0.6
    floor: float = 0.1

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"alpha must be >= 0, got {self.alpha}")


DRAWS = Choice({"uniform": Uniform, "weighted": Weighted})


@dataclass(frozen=True)
class Replay:
    batch: int = 16
    draw: Annotated[Draw, DRAWS] = field(default_factory=Uniform)


@dataclass(frozen=True)
class Config:
    agent: Any = field(default_factory=Agent)
    env: Env = field(default_factory=Env)
    replay: Replay = field(default_factory=Replay)
    out: Path = Path("runs")
    frames: int = 1000
    double_frames: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double_frames", 2 * self.frames)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("agent.rssm.deter", "600", 600),
        ("frames", "1e6", 1_000_000),
        ("frames", "2_000", 2000),
        ("agent.lr", "1e-3", 1e-3),
        ("agent.lr", "3", 3.0),
        ("agent.double", "true", True),
        ("agent.double", "Yes", True),
        ("agent.double", "0", False),
        ("agent.act", "silu", "silu"),
        ("agent.layers", "[1,2]", (1, 2)),
        ("agent.layers", "1,2,4", (1, 2, 4)),
        ("agent.layers", "4", (4,)),
        ("agent.keys", "a,b", ("a", "b")),
        ("agent.keys", "[a, b]", ("a", "b")),
        ("agent.keys", "1", ("1",)),
        ("agent.clip", "none", None),
        ("agent.clip", "inf", math.inf),
        ("agent.harmony", "none", None),
        ("env.id", "600", "600"),
        ("env.id", "none", "none"),
        ("env.id", "true", "true"),
        ("env.id", "a,b", "a,b"),
        ("env.note", "None", None),
        ("env.size", "96,48", (96, 48)),
        ("env.flags", '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("env.flags", "{}", {}),
        ("out", "7", Path("7")),
    ],
)
def test_text_becomes_the_type_of_its_field(key: str, text: str, value: object) -> None:
    result = flatten(apply(Config(), {key: text}))[key] if key != "agent.harmony" else None
    assert result == value
    assert type(result) is type(value)


def test_apply_changes_only_what_is_named_and_leaves_the_original() -> None:
    config = Config()
    changed = apply(config, {"agent.rssm.deter": "600", "env.id": "crafter"})
    assert changed == replace(
        config, agent=replace(config.agent, rssm=Rssm(deter=600)), env=replace(config.env, id="crafter")
    )
    assert config == Config()
    assert apply(config, {}) == config


def test_derived_fields_follow_and_are_not_keys() -> None:
    assert apply(Config(), {"frames": "5"}).double_frames == 10
    assert "double_frames" not in flatten(Config())
    with pytest.raises(UserError, match="unknown key 'double_frames'"):
        apply(Config(), {"double_frames": "1"})


def test_free_dictionaries_are_reached_into() -> None:
    config = apply(Config(), {"env.flags": {"sticky": 0.25, "deep": {"x": 1}}})
    changed = apply(config, {"env.flags.sticky": "0.5", "env.flags.deep.y": "true", "env.flags.new": "[1, 2]"})
    assert changed.env.flags == {"sticky": 0.5, "deep": {"x": 1, "y": True}, "new": [1, 2]}
    assert config.env.flags == {"sticky": 0.25, "deep": {"x": 1}}


def test_an_absent_optional_group_appears_when_one_of_its_keys_is_set() -> None:
    assert apply(Config(), {"agent.harmony.rate": "2"}).agent.harmony == Harmony(2.0)
    with_harmony = Config(agent=Agent(harmony=Harmony()))
    assert apply(with_harmony, {"agent.harmony": "none"}).agent.harmony is None


def test_values_that_depend_on_each_other_are_set_together() -> None:
    assert apply(Config(), {"agent.rssm.deter": "30", "agent.rssm.groups": "3"}).agent.rssm == Rssm(30, 32, 3)


def test_whole_groups_and_python_values() -> None:
    assert apply(Config(), {"agent": OtherAgent(3), "frames": 4}) == Config(agent=OtherAgent(3), frames=4)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"agent.rssm.dter": "600"}, ["agent.rssm.dter", "did you mean", "agent.rssm.deter"]),
        ({"deter": "600"}, ["'deter'", "did you mean", "agent.rssm.deter"]),
        ({"frame_count": "600"}, ["'frame_count'", "did you mean frames?"]),
        ({"layer": "600"}, ["'layer'", "did you mean agent.layers"]),
        ({"agent.lr.x": "600"}, ["agent.lr.x"]),
        ({"agnt.rssm.deter": "600"}, ["agnt.rssm.deter", "agent.rssm.deter"]),
        ({"agent.rssm": "600"}, ["agent.rssm is a group", "agent.rssm.deter"]),
        ({"agent": 5}, ["agent is a group"]),
        ({"agent.rssm.deter": "big"}, ["agent.rssm.deter", "'big'", "an int"]),
        ({"frames": "1.5"}, ["frames", "'1.5'", "an int"]),
        ({"frames": "true"}, ["frames", "'true'", "an int"]),
        ({"frames": True}, ["frames", "True", "an int"]),
        ({"agent.act": "relu"}, ["agent.act", "'relu'", "one of elu, silu"]),
        ({"agent.layers": "1,x"}, ["agent.layers", "'1,x'", "a list of an int"]),
        ({"agent.clip": "x"}, ["agent.clip", "a float or none"]),
        ({"agent.double": "maybe"}, ["agent.double", "a bool"]),
        ({"env.size": "1"}, ["env.size", "a list of (an int, an int)"]),
        ({"agent.heads": "0"}, ["agent.heads", "'0'", "an int above 0"]),
        ({"agent.rssm.deter": "601"}, ["agent.rssm.deter = 601", "multiple of groups"]),
        ({"env.flags.a": "1", "env.flags.a.b": "2"}, ["both given"]),
        ({"env.flags.a.b": "1", "env.flags.a": "2"}, ["in parts"]),
        ({"replay.draw": "weigthed"}, ["replay.draw = 'weigthed' is unknown", "did you mean weighted?"]),
        ({"replay.draw.kind": 3}, ["replay.draw = 3 is unknown", "known: uniform, weighted"]),
        ({"replay.draw": 3}, ["replay.draw is a group"]),
        ({"replay.draw.alpha": "1"}, ["replay.draw.alpha is of replay.draw = weighted, but it is uniform"]),
        ({"replay.draw": "weighted", "replay.draw.alhpa": "1"}, ["'replay.draw.alhpa'", "mean replay.draw.alpha"]),
        ({"replay.draw": "weighted", "replay.draw.alpha": "-1"}, ["replay.draw.alpha = -1: alpha must be >= 0"]),
        ({"replay.draw": "weighted", "replay.draw.alpha": "x"}, ["replay.draw.alpha = 'x'", "a float"]),
        ({"replay.drow": "weighted"}, ["'replay.drow'", "replay.draw.kind"]),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(overrides: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        apply(Config(), overrides)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("overrides", "draw"),
    [
        ({"replay.draw": "weighted"}, Weighted()),
        ({"replay.draw.kind": "weighted"}, Weighted()),
        ({"replay.draw": "weighted", "replay.draw.alpha": "0.9"}, Weighted(0.9)),
        ({"replay.draw.alpha": "0.9", "replay.draw": "weighted"}, Weighted(0.9)),
        ({"replay.draw": Weighted(0.2)}, Weighted(0.2)),
        ({"replay": Replay(3, Weighted(0.3))}, Weighted(0.3)),
    ],
)
def test_a_group_is_chosen_by_name(overrides: dict[str, Any], draw: Draw) -> None:
    assert apply(Config(), overrides).replay.draw == draw


def test_the_chosen_group_is_changed_and_by_name_it_begins_anew() -> None:
    config = Config(replay=Replay(draw=Weighted(0.9, 0.5)))
    assert apply(config, {"replay.draw.alpha": "0.2"}).replay.draw == Weighted(0.2, 0.5)
    assert apply(config, {"replay.draw": "weighted", "replay.draw.alpha": "0.2"}).replay.draw == Weighted(0.2, 0.1)
    assert apply(config, {"replay.draw": "uniform"}).replay.draw == Uniform()
    assert to_dict(config)["replay"] == {"batch": 16, "draw": {"kind": "weighted", "alpha": 0.9, "floor": 0.5}}
    flat = {key: value for key, value in flatten(config).items() if key.startswith("replay.draw")}
    assert flat == {"replay.draw.kind": "weighted", "replay.draw.alpha": 0.9, "replay.draw.floor": 0.5}
    assert apply(Config(), flat) == config


def test_a_class_without_a_name_has_none() -> None:
    with pytest.raises(ValueError, match="Draw is none of uniform, weighted"):
        DRAWS.name(Draw())


def test_lacking_keys_come_with_the_values_they_take() -> None:
    config = Config(agent=Agent(harmony=Harmony()), env=Env(flags={"a": 1}), replay=Replay(draw=Weighted()))
    data = to_dict(config)
    assert lacking(config, data) == {}
    del data["replay"]["draw"]["floor"], data["agent"]["rssm"], data["env"]["flags"], data["agent"]["lr"]
    assert lacking(from_dict(Config(), data), data) == {
        "agent.rssm.deter": 200,
        "agent.rssm.classes": 32,
        "agent.rssm.groups": 8,
        "agent.lr": 1e-4,
        "env.flags": {},
        "replay.draw.floor": 0.1,
    }
    assert lacking(Config(), to_dict(Config())) == {}


def test_parse_reads_every_spelling() -> None:
    words = "--agent.rssm.deter 600 --agent.lr=1e-3 agent.act=silu --agent.double --env.action-repeat 4 x.y=a=b --z -1"
    assert parse(words.split()) == {
        "agent.rssm.deter": "600",
        "agent.lr": "1e-3",
        "agent.act": "silu",
        "agent.double": "true",
        "env.action_repeat": "4",
        "x.y": "a=b",
        "z": "-1",
    }
    assert parse(["--agent.double", "agent.lr=2"]) == {"agent.double": "true", "agent.lr": "2"}
    assert parse(["--a.b", "1", "--a.b=2"]) == {"a.b": "2"}
    assert parse(["--a.b="]) == {"a.b": ""}
    assert parse([]) == {}


@pytest.mark.parametrize("word", ["600", "-x", "--", "--=3", "--a b c"])
def test_parse_refuses_stray_words(word: str) -> None:
    with pytest.raises(UserError, match="write --key value"):
        parse(word.split())


configs = st.builds(
    Config,
    agent=st.builds(
        Agent,
        rssm=st.builds(Rssm, deter=st.integers(1, 9).map(lambda n: 8 * n)),
        lr=st.floats(allow_nan=False),
        double=st.booleans(),
        act=st.sampled_from(["elu", "silu"]),
        layers=st.lists(st.integers()).map(tuple),
        keys=st.lists(st.text()).map(tuple),
        clip=st.none() | st.floats(allow_nan=False),
        harmony=st.none() | st.builds(Harmony, st.floats(0, 1)),
        heads=st.integers(1, 4),
    )
    | st.builds(OtherAgent),
    env=st.builds(
        Env,
        id=st.sampled_from(["none", "true", "1", "1,2", "[1]", "memory"]) | st.text(),
        note=st.none() | st.sampled_from(["none", "3"]),
        flags=st.dictionaries(
            st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
        ),
    ),
    replay=st.builds(Replay, draw=st.builds(Uniform) | st.builds(Weighted, alpha=st.floats(0, 1))),
    out=st.sampled_from([Path("a/b"), Path("3")]),
    frames=st.integers(),
)


@given(configs)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_saved_configs_come_back_exactly(config: Config) -> None:
    default = Config(agent=type(config.agent)())
    assert from_dict(default, json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


def test_from_dict_keeps_defaults_and_refuses_strangers() -> None:
    assert from_dict(Config(frames=7), {"env": {"id": "x"}}) == Config(frames=7, env=Env(id="x"))
    with pytest.raises(UserError, match=r"unknown key 'env\.idd'.*env\.id"):
        from_dict(Config(), {"env": {"idd": "x"}})
    with pytest.raises(UserError, match=r"agent\.rssm: deter must be"):
        from_dict(Config(), {"agent": {"rssm": {"deter": 3}}})


def test_what_json_cannot_hold_is_refused_when_saved() -> None:
    with pytest.raises(TypeError, match="object"):
        to_dict(Config(env=Env(flags={"x": object()})))


def test_a_list_without_its_end_is_none() -> None:
    """Its last character would be taken for the bracket."""
    assert natural("[64,128") == "[64,128"
    assert natural("[a, b]") == ["a", "b"]
