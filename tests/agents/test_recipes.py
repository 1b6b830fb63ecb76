"""Recipes: agents without tensors, what can be had from one without a learner, and how one is found."""

import pickle
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import reverie
import reverie.agents
from reverie.agents import agents, find, registered
from reverie.agents.agent import Agent
from reverie.agents.dqn import DQN
from reverie.agents.learner import load_tensors
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.run.configure import configure
from tests.agents.value import IMAGE, SMALL, VECTOR, batch, decide, disturb, make, recipe

AGENTS: list[tuple[str, dict[str, Any]]] = [
    ("dqn", {"stack": 3, "dueling": True}),
    ("rainbow", {}),
    ("iqn", {}),
    ("apex", {}),
    ("drqn", {"units": 5, "core": "gru"}),
    ("r2d2", {"units": 5}),
    ("munchausen:MunchausenDQN", {}),
]
EACH = pytest.mark.parametrize(("agent", "settings"), AGENTS, ids=[name for name, _ in AGENTS])


@EACH
@pytest.mark.parametrize("env", [IMAGE, VECTOR], ids=["image", "vector"])
def test_a_policy_without_a_learner_acts_as_the_learners(agent: str, settings: dict[str, Any], env: EnvSpec) -> None:
    learner = make(agent, env, **settings, torso=replace(SMALL["torso"], standardise=True))
    for seed in range(2):
        learner.update(batch(learner, seed=seed))
    torch.manual_seed(99)
    alone = recipe(agent, env, **settings, torso=learner.config.torso).policy()
    load_tensors(alone, learner.save()["tensors"], "policy.")
    assert int(alone.version) == learner.learner_steps == 2
    assert (alone.noise, alone.lookback, alone.scored) == (
        learner.policy.noise,
        learner.policy.lookback,
        learner.policy.scored,
    )
    rows = batch(learner, width=8).rows
    states = [policy.initial_state(8) for policy in (alone, learner.policy)]
    for t in range(learner.windows.length):
        row = {name: value[t] for name, value in rows.items()}
        u = torch.rand(8, alone.noise)
        for play in ("explore", "random", "greedy"):
            one, other = (
                decide(policy, row, u, play, state)
                for policy, state in zip((alone, learner.policy), states, strict=True)
            )
            assert torch.equal(one.action, other.action)
            assert one.extras.keys() == other.extras.keys()
            for mine, theirs in ((one.state, other.state), (one.extras, other.extras)):
                assert all(torch.equal(mine[name], value) for name, value in theirs.items())
        states = [one.state, other.state]
    disturb(learner)  # the target network is none of the policy's
    assert all(torch.equal(v, learner.policy.state_dict()[n]) for n, v in alone.state_dict().items())


@EACH
def test_a_recipe_travels_and_makes_the_same_policy_elsewhere(agent: str, settings: dict[str, Any]) -> None:
    here = recipe(agent, IMAGE, **settings)
    there = pickle.loads(pickle.dumps(here))
    assert type(there) is type(here)
    assert there == here
    assert not any(isinstance(value, torch.Tensor | torch.nn.Module) for value in vars(here).values())
    policies = []
    for one in (here, there):
        torch.manual_seed(5)
        policies.append(one.policy())
    tensors = [policy.state_dict() for policy in policies]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


# How one is found


def one_line(name: str) -> str:
    with pytest.raises(UserError) as error:
        find(name).load()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another package that registers two agents, one of them under a name of ours."""
    points = [
        EntryPoint("munchausen", "munchausen:MunchausenDQN", "reverie.agents"),
        EntryPoint("dqn", "munchausen:MunchausenDQN", "reverie.agents"),
    ]
    monkeypatch.setattr(reverie.agents, "entry_points", lambda group: [p for p in points if p.group == group])
    registered.cache_clear()
    yield
    registered.cache_clear()


def test_every_agent_that_has_a_name_is_one() -> None:
    for name, entry in agents().items():
        assert issubclass(find(name).load(), Agent)
        assert entry.summary


def test_an_agent_is_found_by_its_path() -> None:
    from munchausen import MunchausenDQN

    assert find("munchausen:MunchausenDQN").load() is MunchausenDQN
    assert find("reverie.agents.dqn:DQN").load() is DQN


@pytest.mark.usefixtures("installed")
def test_an_agent_is_found_by_the_name_that_its_package_gives_it() -> None:
    from munchausen import MunchausenDQN

    assert find("munchausen").load() is MunchausenDQN
    assert "munchausen" in agents()
    assert find("dqn").load() is DQN  # ours keep their names
    assert "did you mean munchausen?" in one_line("munchhausen")


class Bare(Agent):
    """An agent without settings."""

    def policy(self) -> Any:
        raise NotImplementedError


@dataclass
class Loose:
    """Settings that can be changed in place."""

    units: int = 3


class WithLoose(Bare):
    """Its settings are not frozen."""

    Config = Loose


class WithPreset(DQN):
    """Its preset makes no configuration."""

    presets: ClassVar[dict[str, Any]] = {"tiny": lambda task: 3}


def test_what_an_agent_lacks_is_said_in_one_line() -> None:
    for cls in (Bare, WithLoose):
        with pytest.raises(UserError, match=f"{cls.__name__} has no settings: its Config must be a frozen dataclass"):
            find(f"{__name__}:{cls.__name__}").load()
    with pytest.raises(UserError, match=r"preset 'tiny' of .*WithPreset returns 3; it must return a reverie.Config"):
        reverie.make_config(f"{__name__}:WithPreset", "tiny", "CartPole-v1")
    with pytest.raises(UserError, match=r"env is <function .*; it must be an id, as package.module:factory"):
        reverie.make_config("dqn", None, test_what_an_agent_lacks_is_said_in_one_line)  # type: ignore[arg-type]


def test_settings_of_another_agent_are_refused(tmp_path: Path) -> None:
    config = replace(reverie.make_config("r2d2", None, "CartPole-v1"), name="dqn")
    with pytest.raises(UserError, match="dqn has settings of DQNConfig, not of R2D2Config: begin with make_config"):
        reverie.train(config, tmp_path / "run")
    for word, fix in (("--name=dqn", "the agent is the first word"), ("preset=atari", "say --preset NAME")):
        with pytest.raises(UserError, match=f"is no setting: {fix}"):
            configure("r2d2", None, "CartPole-v1", [word], {})


def test_what_is_not_found_is_refused_in_one_line() -> None:
    assert "did you mean r2d2" in one_line("r2d3")
    assert "or package.module:Class of your own" in one_line("munchausen")
    assert "nowhere.at_all:Agent: there is no module 'nowhere'; install it" in one_line("nowhere.at_all:Agent")
    assert "munchausen:Nobody: module munchausen has no class 'Nobody'; " in one_line("munchausen:Nobody")
    assert "munchausen:MunchausenQ is not an agent: expected a class" in one_line("munchausen:MunchausenQ")
    assert "munchausen:dataclass is not an agent" in one_line("munchausen:dataclass")
    for name in (":DQN", "munchausen:", ".munchausen:MunchausenDQN"):
        assert f"{name!r} does not lead to an agent: expected package.module:Class" in one_line(name)
