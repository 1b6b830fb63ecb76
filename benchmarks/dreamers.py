"""Every world model's learner update at one common size, in turns; see docs/performance.md.

    python -m benchmarks.dreamers --out results/performance/dreamers.json
    python -m benchmarks.dreamers --device cuda --precision bfloat16 --capture

Batches of 8 x 32 rows of 64x64x3 pictures and six actions (continuous where an agent has no others). Each agent is its
published one, with as many layers, heads and updates as its defaults say, at these widths: deterministic state 256 (and
all around it), latents of 16 x 16 or 32 Gaussian numbers, 256 units in heads, actor and critic, convolutions from depth
16 on, dreams of 15 steps. One round is an update of each; what is measured so far is kept after each round. On a GPU
the kernels of an update are counted too, before it is recorded.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from benchmarks.timing import device_name, keep, kernels, make_batch, summary, surroundings, timed, wait, write
from reverie.agents import find
from reverie.agents.capture import EAGER, CapturedUpdate
from reverie.agents.dreamer_sizes import Size, Size2023
from reverie.agents.learner import Learner
from reverie.data.sequences import Batch, SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.rssm import RSSMConfig
from reverie.run.allocator import prepare_process

TIME, BATCH, ACTIONS = 32, 8, 6
CONTINUOUS = ("planet", "repo", "denoised")
"""agents of control suites; all others play with discrete actions"""
AGENTS = (
    *("planet", "dreamerv1", "repo", "denoised", "dreamerv2", "harmonydream", "dreamerpro", "plan2explore"),
    *("dreamerv3-2023", "dreamerv3", "r2dreamer"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7, help="beside those before, which do not count")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--agents", nargs="*", default=list(AGENTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--capture", action="store_true", help="replay updates as CUDA graphs")
    options = parser.parse_args()
    prepare_process(options.threads)
    device = torch.device(options.device)
    kinds = {name: build(name, device, getattr(torch, options.precision)) for name in options.agents}
    document: dict[str, Any] = {"what": f"learner update, {BATCH} x {TIME} rows of 64x64x3, see the script"}
    document |= {"device": device_name(device), "precision": options.precision, "capture": options.capture}
    agents: dict[str, Any] = {
        name: {"parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad)}
        for name, learner in kinds.items()
    }
    if device.type == "cuda":
        for name in kinds:
            apart = build(name, device, getattr(torch, options.precision))
            agents[name]["kernels"] = kernels(apart.update, rows(name, apart))
    updates = {name: CapturedUpdate(learner) if options.capture else learner.update for name, learner in kinds.items()}
    for name, call in list(updates.items()):
        try:
            for _ in range(EAGER + 1 if options.capture else 1):
                wait(call, rows(name, kinds[name]))
        except UserError as error:  # the others are measured all the same
            agents[name]["refused"] = str(error)
            del updates[name]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in updates}
    for _ in range(options.rounds):
        for name, call in updates.items():
            batch = rows(name, kinds[name])
            times[name].append(timed(lambda call=call, batch=batch: wait(call, batch)))  # type: ignore[misc]
        document["agents"] = agents | {name: agents[name] | summary(each) for name, each in times.items()}
        if options.out:
            keep(document | surroundings(), options.out)
    write(document | surroundings(), options.out)


def build(name: str, device: torch.device, precision: torch.dtype) -> Learner:
    """The learner of an agent at the common size."""
    recipe = find(name).load()
    action: spaces.Space = spaces.Discrete(ACTIONS)
    if name in CONTINUOUS:
        action = spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)
    env = EnvSpec("benchmark", {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}, action)
    agent = recipe(at_size(recipe.Config()), env)
    torch.manual_seed(0)
    windows = agent.windows(SequenceSpec(learn=TIME))
    return agent.learner(agent.policy(), windows, 0, device, precision)


def at_size(config: Any) -> Any:
    """The configuration of an agent with the common widths."""
    changes: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, EncoderConfig):
            changes[field.name] = replace(value, depth=16)
        elif isinstance(value, HeadConfig):
            changes[field.name] = replace(value, units=256)
        elif isinstance(value, RSSMConfig):
            latents = {"stoch": 32} if value.latent == "gaussian" else {"stoch": 16, "classes": 16}
            changes[field.name] = replace(value, deter=256, hidden=256, **latents)
        elif isinstance(value, Size2023):
            changes[field.name] = replace(value, deter=256, units=256, depth=16, stoch=16, classes=16)
        elif isinstance(value, Size):
            changes[field.name] = replace(value, deter=256, hidden=256, depth=16, units=256, stoch=16, classes=16)
    return replace(config, **changes)


def rows(name: str, learner: Learner) -> Batch:
    """A batch as the learner's windows ask for it; its first rows begin episodes."""
    length = learner.windows.length
    batch = make_batch((length, BATCH), (64, 64, 3), ACTIONS, last=0.02, fresh=True)
    if name in CONTINUOUS:
        actions = torch.rand(2, length, BATCH, ACTIONS, generator=torch.Generator().manual_seed(0)) * 2 - 1
        batch = replace(batch, rows={**batch.rows, "action": actions[0], "prev_action": actions[1]})
    if learner.windows.state == "stored":
        batch = replace(batch, start=learner.policy.initial_state(BATCH))
    return batch.to(learner.device)


if __name__ == "__main__":
    main()
