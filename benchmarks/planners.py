"""How many decisions a second the planners take, by how many streams plan at once; see docs/performance.md.

    python -m benchmarks.planners --out results/performance/planners.json

Rows are those of the control suite's walker from states, 24 numbers and 6 actions, and of a 64x64 picture for PlaNet,
which has no encoder of vectors of a published size. TD-MPC2 has its published size 1M, TD-MPC its published one, each
with its published search and with that of the preset `cpu`; PlaNet has its published networks and search. All play
greedily, one call a round: every kind in turns, so that a busy machine treats them alike. Policies plan for all their
streams at once, as actors and evaluations have them do.
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

from benchmarks.timing import summary, surroundings, timed, write
from reverie.agents import find
from reverie.agents.noise import Noise
from reverie.agents.policy import Policy, Seat
from reverie.agents.tdmpc2_sizes import M1
from reverie.envs.env import EnvSpec
from reverie.presets import make_config
from reverie.run.allocator import keep_freed_memory

ACTIONS, NUMBERS = 6, 24
STATES: dict[str, spaces.Box] = {"vector": spaces.Box(-np.inf, np.inf, (NUMBERS,), np.float32)}
PICTURES: dict[str, spaces.Box] = {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=9, help="and one before, which does not count")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    planners = kinds()
    policies = {name: planner.policy() for name, planner in planners.items()}
    deciders = {(name, n): decider(policies[name], n) for name, planner in planners.items() for n in planner.streams}
    times: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in deciders}
    for _ in range(options.rounds + 1):
        for key, decide in deciders.items():
            times[key].append(timed(decide))
    document: dict[str, Any] = {"what": "greedy decisions, see the script", "planners": {}}
    for name, planner in planners.items():
        document["planners"][name] = {
            "parameters": sum(parameter.numel() for parameter in policies[name].parameters()),
            "search": vars(planner.config.plan),
            "streams": {str(n): about(times[name, n][1:], n) for n in planner.streams},
        }
    write(document | surroundings(), options.out)


@dataclass(frozen=True)
class Planner:
    """An agent's name and settings, what it sees, and how many streams it plans for."""

    agent: str
    config: Any
    observation: dict[str, spaces.Box] = field(default_factory=lambda: STATES)
    streams: tuple[int, ...] = (1, 4, 16)

    def policy(self) -> Policy:
        """The agent's policy with fresh networks."""
        env = EnvSpec("benchmark", dict(self.observation), spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32))
        torch.manual_seed(0)
        return find(self.agent).load()(self.config, env).policy()


def kinds() -> dict[str, Planner]:
    """All of them by name."""
    small, small2 = (make_config(name, "cpu", "Pendulum-v1").agent for name in ("tdmpc", "tdmpc2"))
    tdmpc, planet = (find(name).load().Config() for name in ("tdmpc", "planet"))
    tdmpc2 = replace(find("tdmpc2").load().Config(), size=M1())
    small = replace(small, anneal=tdmpc.anneal)  # which counts updates, where the preset has a share of a run
    return {
        "tdmpc2 1M, published search": Planner("tdmpc2", tdmpc2),
        "tdmpc2 1M, search of cpu": Planner("tdmpc2", replace(tdmpc2, plan=small2.plan)),
        "tdmpc2 cpu": Planner("tdmpc2", small2),
        "tdmpc, published search": Planner("tdmpc", tdmpc),
        "tdmpc cpu": Planner("tdmpc", small),
        "planet, published search": Planner("planet", planet, PICTURES, (1,)),
    }


def decider(policy: Policy, streams: int) -> Callable[[], Tensor]:
    """What decides once for each stream, and goes on from the state that it was left in."""
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


def about(times: list[tuple[float, float]], streams: int) -> dict[str, Any]:
    """Times of a call, and what it makes in decisions a second."""
    facts = summary(times)
    return facts | {"decisions_per_second": streams / facts["seconds_median"]}


if __name__ == "__main__":
    main()
