"""From a configuration to the parts of a run: device, environment, learner, replay. Seeds are derived by name."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from reverie.agents import find
from reverie.agents.agent import Learner
from reverie.config import Config
from reverie.data.replay import Replay
from reverie.data.rows import Field, RowSpec, row_spec
from reverie.envs.env import EnvSpec, VectorEnv
from reverie.envs.make import make_env
from reverie.errors import UserError
from reverie.nets.schedule import resolve
from reverie.run.length import run_length


def derive(seed: int, name: str) -> int:
    """A seed for one user of randomness, independent between names: SeedSequence of (seed, crc32 of the name)."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def pick_device(name: str) -> torch.device:
    """``auto``: the GPU when there is one. Raises UserError for a device that torch does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} was asked for but torch {torch.__version__} sees no GPU; use --device cpu")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on a GPU, float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def build_env(config: Config, num_envs: int | None = None) -> VectorEnv:
    """Fresh environments of the run's kind and protocol."""
    env = config.env
    return make_env(env.id, num_envs=num_envs or env.num_envs, protocol=env.protocol, **env.options)


def build_learner(config: Config, env: EnvSpec, device: torch.device) -> Learner:
    """The learner with freshly initialised networks (seeded)."""
    learner, _ = find(config.name).load()
    agent = resolve(config.agent, run_length(config, env))
    torch.manual_seed(derive(config.run.seed, "networks"))
    seed = derive(config.run.seed, "learner")
    try:
        spec = learner.sequence(agent, config.replay.window.asked(), env)
        built: Learner = learner(agent, env, spec, seed, device, pick_precision(config.run.precision, device))
    except ValueError as error:
        raise UserError(f"{config.name} cannot be built for {env.id}: {error}") from error
    if config.run.compile:
        built.compile_parts()
    return built


def build_replay(config: Config, env: EnvSpec, learner: Learner) -> Replay:
    """The replay of the run, in host memory. Raises UserError if it does not fit or has no states to keep."""
    states = _state_spec(learner) if learner.spec.keeps_states else None
    if learner.spec.keeps_states and not states:
        raise UserError(
            f"{config.name} on {env.id} has no recurrent state to keep: "
            "set replay.window.state = zero and replay.window.drift = false"
        )
    try:
        return Replay(
            row_spec(env.observation, env.action, learner.policy.extras),
            learner.spec,
            config.env.num_envs,
            config.replay.store.budget,
            config.replay.selector.make(),
            derive(config.run.seed, "replay"),
            states=states,
            pin_memory=learner.device.type == "cuda",
        )
    except MemoryError as error:
        raise UserError(
            f"a replay of {config.replay.store.budget} bytes does not fit into this machine's memory; "
            "say how much it may take with --replay.store.budget"
        ) from error


def _state_spec(learner: Learner) -> RowSpec:
    state = learner.policy.initial_state(1)
    return {name: Field(tuple(v.shape[1:]), v.cpu().numpy().dtype) for name, v in state.items()}
