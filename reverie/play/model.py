"""A run's world model to play with, and rows of its environment that it has never seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Noise, Policy, Seat, placed
from reverie.agents.worldmodel import HasWorldModel, WorldModel
from reverie.config import Config
from reverie.data.rows import Rows, State
from reverie.envs.env import VectorEnv, shut
from reverie.errors import UserError
from reverie.nets.encoders import is_image
from reverie.play.envs import build_world, carried_of
from reverie.play.load import load_parts
from reverie.run.build import build_agent, derive, pick_device
from reverie.run.roles import Actor
from reverie.run.saved_config import load_config
from reverie.run.zoo import as_named, resolve


@dataclass(frozen=True)
class LoadedModel:
    """A run's policy and world model, environments of their kind, and the env_steps they were trained for.

    noise: of its dreams.
    """

    config: Config
    env: VectorEnv
    policy: Policy
    model: WorldModel
    noise: Noise
    env_steps: int

    @property
    def images(self) -> list[str]:
        """Keys of the observations that are images and that the model can tell."""
        spaces = self.env.spec.observation if self.model.objective.tells else {}
        return [key for key, space in spaces.items() if is_image(space)]


def load_model(run_dir: Path, device: str, seed: int, checkpoint: str = "latest") -> LoadedModel:
    """Networks of a run's checkpoint; `seed` decides the noise of its dreams.

    Raises UserError if the agent has no world model.
    """
    run_dir = resolve(run_dir)
    config = load_config(run_dir)
    env = build_world(config, 4, carried_of(run_dir, checkpoint))
    try:
        agent = build_agent(config, env.spec)
        if not isinstance(agent, HasWorldModel):
            raise UserError(
                f"{config.name} has no world model to dream with; `reverie config {as_named(run_dir)}` shows its "
                "configuration and what changed, `reverie plot` its curve"
            )
        policy = agent.policy()
        model = agent.model(policy)
        env_steps = load_parts(run_dir, checkpoint, policy=policy, model=model)
        where = pick_device(device)
        noise = Noise(derive(seed, "dream"), where)
        return LoadedModel(config, env, placed(policy, where).eval(), placed(model, where).eval(), noise, env_steps)
    except BaseException:
        shut(env)
        raise


def held_out(
    loaded: LoadedModel, count: int, context: int, horizon: int, seed: int, random: bool = False
) -> list[Rows]:
    """`count` fresh sequences of context + 1 to context + horizon rows [T, ...], each within one episode.

    They begin at evenly spread rows: every context + horizon rows of a long episode, the first row of a short one.
    Played by the sampling policy, or by uniformly random actions. Fewer than `count` if ten times as many were too
    short. Raises UserError if all were.
    """
    env, length = loaded.env, context + horizon
    sequences: list[Rows] = []
    streams: list[list[Rows]] = [[] for _ in range(env.num_envs)]
    parts = 0

    def sink(rows: Rows, ids: np.ndarray | None, state: Any, version: int) -> None:
        nonlocal parts
        for i, stream in enumerate(range(env.num_envs) if ids is None else ids.tolist()):
            row = {name: value[i].copy() for name, value in rows.items()}
            if row["is_first"]:
                streams[stream] = []
            streams[stream].append(row)
            if len(streams[stream]) == length or row["is_last"]:
                part = streams[stream]
                if len(part) > context:
                    sequences.append({name: np.stack([r[name] for r in part]) for name in part[0]})
                streams[stream] = []
                parts += 1

    actor = Actor(env, loaded.policy, sink, derive(seed, "held-out"))
    seat = Seat.alone(env.num_envs, "random" if random else "explore", loaded.env_steps)
    actor.start()
    while len(sequences) < count and parts < 10 * count:
        actor.step(seat)
    if not sequences:
        raise UserError(
            f"episodes of {loaded.config.env.id} are shorter than {context + 1} rows; use a smaller --context"
        )
    return sequences[:count]


def first_states(loaded: LoadedModel, count: int, seed: int) -> State:
    """Posterior states at the first rows of `count` fresh episodes, name -> [count, ...]."""
    model, env = loaded.model, loaded.env
    resets = [env.reset(derive(seed, f"start {k}")) for k in range(-(-count // env.num_envs))]
    rows = {name: np.concatenate([each[name] for each in resets])[None, :count] for name in resets[0]}
    tensors = {name: torch.from_numpy(value).to(model.device) for name, value in rows.items()}
    # Nothing was done before a first row, and the model takes no notice of it.
    action = torch.zeros(1, count, model.actions.size, device=model.device)
    with torch.inference_mode():
        u = loaded.noise.uniform(1, count, model.observe_noise)
        return model.observe(model.initial_state(count), action, tensors, u).last
