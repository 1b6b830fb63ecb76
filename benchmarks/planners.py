"""Decisions a second of the agents that plan, by how many streams plan at once, and their updates; docs/performance.md.

    python -m benchmarks.planners --out results/performance/planners.json

Rows are those of the control suite's walker from states, 24 numbers and 6 actions, and of a 64x64 picture for PlaNet,
which has no encoder of vectors of a published size. TD-MPC2 has its published size 1M, TD-MPC its published one, each
with its published search and with that of the preset `cpu`; PlaNet has its published networks and search. All play
greedily, one call a round: every kind in turns, so that a busy machine treats them alike. Policies plan for all their
streams at once, as actors and evaluations have them do. An update is of 256 windows, in the presets `cpu` of 64.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from benchmarks.timing import make_batch, summary, surroundings, timed, write
from reverie.agents import find
from reverie.agents.agent import Agent
from reverie.agents.noise import Noise
from reverie.agents.policy import Policy, Seat
from reverie.agents.tdmpc2_sizes import M1
from reverie.config import Config
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.schedule import resolve
from reverie.presets import make_config
from reverie.run.allocator import prepare_process
from reverie.run.length import run_length

ACTIONS, NUMBERS = 6, 24
LATE = 10**6
"""learner_steps, after which every plan has its whole length"""
STATES: dict[str, spaces.Box] = {"vector": spaces.Box(-np.inf, np.inf, (NUMBERS,), np.float32)}
PICTURES: dict[str, spaces.Box] = {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=9, help="and one before, which does not count")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    prepare_process(options.threads)
    planners = kinds()
    policies = {name: planner.policy() for name, planner in planners.items()}
    deciders = {(name, n): decider(policies[name], n) for name, planner in planners.items() for n in planner.streams}
    updates = {name: updater(planner) for name, planner in planners.items() if planner.batch}
    works: dict[Any, Callable[[], object]] = {**deciders, **updates}
    times: dict[Any, list[tuple[float, float]]] = {key: [] for key in works}
    for _ in range(options.rounds + 1):
        for key, work in works.items():
            times[key].append(timed(work))
    document: dict[str, Any] = {"what": "greedy decisions and updates, see the script", "planners": {}}
    for name, planner in planners.items():
        document["planners"][name] = {
            "parameters": sum(parameter.numel() for parameter in policies[name].parameters()),
            "search": vars(planner.config.plan),
            "streams": {str(n): about(times[name, n][1:], n) for n in planner.streams},
        }
        if planner.batch:
            document["planners"][name]["update"] = {"windows": planner.batch, **summary(times[name][1:])}
    write(document | surroundings(), options.out)


@dataclass(frozen=True)
class Planner:
    """An agent's name and settings, what it sees, how many streams it plans for.

    batch: windows of an update; 0: it is not timed here.
    """

    agent: str
    config: Any
    batch: int
    observation: dict[str, spaces.Box] = field(default_factory=lambda: STATES)
    streams: tuple[int, ...] = (1, 4, 16)

    def recipe(self) -> Agent:
        """The agent."""
        env = EnvSpec("benchmark", dict(self.observation), spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32))
        return find(self.agent).load()(self.config, env)

    def policy(self) -> Policy:
        """The agent's policy with fresh networks."""
        torch.manual_seed(0)
        return self.recipe().policy()


def kinds() -> dict[str, Planner]:
    """All of them by name."""
    small, small2 = (resolved(make_config(name, "cpu", "Pendulum-v1")) for name in ("tdmpc", "tdmpc2"))
    tdmpc, planet = (find(name).load().Config() for name in ("tdmpc", "planet"))
    tdmpc2 = replace(find("tdmpc2").load().Config(), size=M1())
    return {
        "tdmpc2 1M, published search": Planner("tdmpc2", tdmpc2, 256),
        "tdmpc2 1M, search of cpu": Planner("tdmpc2", replace(tdmpc2, plan=small2.plan), 0),
        "tdmpc2 cpu": Planner("tdmpc2", small2, 64),
        "tdmpc, published search": Planner("tdmpc", tdmpc, 256),
        "tdmpc cpu": Planner("tdmpc", small, 64),
        "planet, published search": Planner("planet", planet, 0, PICTURES, (1,)),
    }


def resolved(config: Config) -> Any:
    """Settings of a run's agent, with schedules in updates that are shares of the run."""
    return resolve(config.agent, run_length(config, action_repeat=1))


def decider(policy: Policy, streams: int) -> Callable[[], Tensor]:
    """What decides once for each stream, and goes on from the state that it was left in."""
    policy.version.fill_(LATE)
    generator, noise, seat = torch.Generator().manual_seed(0), Noise(0), Seat.alone(streams)
    rows: dict[str, Tensor] = {
        "obs.vector": torch.randn(streams, NUMBERS, generator=generator),
        "obs.image": torch.randint(0, 256, (streams, 64, 64, 3), dtype=torch.uint8, generator=generator),
        "prev_action": torch.zeros(streams, ACTIONS),
        "reward": torch.zeros(streams),
        "is_first": torch.zeros(streams, dtype=torch.bool),
    }
    state = [policy.initial_state(streams)]

    def decide() -> Tensor:
        with torch.inference_mode():
            decision = policy.step(state[0], rows, noise, seat)
        state[0] = decision.state
        return decision.action

    return decide


def updater(planner: Planner) -> Callable[[], object]:
    """What makes one learner_step on a batch that stays the same."""
    agent = planner.recipe()
    windows = agent.windows(SequenceSpec(learn=planner.config.plan.horizon))
    torch.manual_seed(0)
    learner = agent.learner(agent.policy(), windows, 0, torch.device("cpu"), torch.float32)
    batch = make_batch((windows.length, planner.batch), (1, 1, 1), 1, last=0.0, fresh=False)
    generator = torch.Generator().manual_seed(0)
    shape = (windows.length, planner.batch)
    rows = {key: value for key, value in batch.rows.items() if key != "obs.image"}
    rows["obs.vector"] = torch.randn(*shape, NUMBERS, generator=generator)
    for name in ("action", "prev_action"):
        rows[name] = torch.rand(*shape, ACTIONS, generator=generator) * 2 - 1
    batch = replace(batch, rows=rows)
    return lambda: learner.update(batch)


def about(times: list[tuple[float, float]], streams: int) -> dict[str, Any]:
    """Times of a call, and what it makes in decisions a second."""
    facts = summary(times)
    return facts | {"decisions_per_second": streams / facts["seconds_median"]}


if __name__ == "__main__":
    main()
