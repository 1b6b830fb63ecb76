"""``reverie.load(run)``: a trained policy to play with, in three lines of Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from reverie.agents.agent import Noise, Play, Policy, Seat, placed
from reverie.agents.learner import load_tensors
from reverie.data.rows import OBS, State, row_spec
from reverie.envs.adapter import Adapter, of_rows
from reverie.envs.env import EnvSpec, VectorEnv, shut
from reverie.errors import UserError, suggest
from reverie.run.build import build_agent, build_env, pick_device
from reverie.run.checkpoint import Checkpoints, misfit
from reverie.run.saved_config import load_config
from reverie.run.tree import load_tree
from reverie.run.zoo import resolve


class LoadedPolicy:
    """A policy with an environment's own observations in and its own actions out.

    ::

        policy, env = reverie.load("runs/pong"), reverie.make_single("runs/pong")
        obs, info = env.reset(seed=0)
        state = policy.initial_state(1)                 # again for each episode
        action, state = policy.act(obs, state)          # again and again
        obs, reward, *_ = env.step(action)

    The state holds what the policy remembers, its previous action and whether an episode begins.
    """

    def __init__(
        self, policy: Policy, spec: EnvSpec, env_steps: int, seed: int = 0, adapter: Adapter | None = None
    ) -> None:
        self.policy, self.spec, self.env_steps = policy, spec, env_steps
        self.device = policy.device
        self.noise = Noise(seed, self.device, host=True)
        self.adapter = adapter or of_rows(spec.observation, spec.action)
        self.fields = row_spec(spec.observation, spec.action)

    def initial_state(self, batch: int) -> State:
        """The state of `batch` streams before their first observation."""
        field = self.fields["action"]
        prev = torch.from_numpy(np.zeros((batch, *field.shape), field.dtype)).to(self.device)
        first = torch.ones(batch, dtype=torch.bool, device=self.device)
        return {**self.policy.initial_state(batch), "prev_action": prev, "is_first": first}

    def act(
        self,
        obs: Any,
        state: State,
        *,
        reward: Any = 0.0,
        is_first: Any = None,
        info: Mapping[str, Any] | None = None,
        play: Play = "greedy",
    ) -> tuple[Any, State]:
        """One decision per stream.

        obs: as the environment gives it, nested and in its own dtypes; of B streams with a leading axis, or without one
            if the state has B = 1: the action then has none either. The action is as the environment takes it: within
            its own bounds, counted from its own start. Or rows of a `VectorEnv`, as its `reset` and `step` return them:
            then reward and is_first are theirs, and the action is for its `step`.
        reward: earned on the way to obs, for agents that remember it. is_first: bool [B], where a stream begins anew
            (default: never, but after `initial_state`). info: as `reset` and `step` return it; needed where it tells
            which actions may be taken.
        Raises UserError if an observation is not of the environment's space. Flicker is the environment's, not done
        here; entries that are masked are hidden here too.
        """
        check_play(play)
        if state is None:
            raise UserError("state is None; begin with initial_state(streams), then give the state that act returned")
        batch = state["is_first"].shape[0]
        rowwise = isinstance(obs, Mapping) and "is_first" in obs and any(name.startswith(OBS) for name in obs)
        if rowwise:
            seen, alone = self._of_rows(obs, batch), False
            reward, is_first = obs["reward"], obs["is_first"]
        else:
            seen, alone = self.adapter.observe(obs, batch, info)
        rows = {OBS + key: torch.from_numpy(value).to(self.device) for key, value in seen.items()}
        first = state["is_first"]
        if is_first is not None:
            first = first | torch.as_tensor(is_first, dtype=torch.bool, device=self.device).expand(batch)
        rows["is_first"] = first
        rows["prev_action"] = state["prev_action"]
        rows["reward"] = torch.as_tensor(reward, dtype=torch.float32, device=self.device).expand(batch)
        memory = {name: value for name, value in state.items() if name not in ("prev_action", "is_first")}
        with torch.inference_mode():
            decision = self.policy.step(memory, rows, self.noise, Seat.alone(batch, play, self.env_steps))
        after = {**decision.state, "prev_action": decision.action, "is_first": torch.zeros_like(first)}
        action = decision.action.cpu().numpy()
        return (action if rowwise else self.adapter.act(action, alone)), after

    def _of_rows(self, rows: Mapping[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
        """Observations of rows, key -> [B, ...]."""
        seen = {}
        for key in self.spec.observation:
            field, value = self.fields[OBS + key], np.asarray(rows.get(OBS + key))
            if (value.shape, value.dtype) != ((batch, *field.shape), field.dtype):
                expected = f"{field.dtype} {(batch, *field.shape)}"
                raise UserError(f"rows have {OBS}{key} of {value.dtype} {value.shape}, expected {expected}")
            seen[key] = value
        return seen


def check_play(play: str) -> None:
    """Raise UserError for a manner of playing that there is not."""
    if play not in get_args(Play):
        raise UserError(f"play {play!r} is unknown{suggest(play, get_args(Play))}")


def adapter_of(env: VectorEnv, policy: Policy) -> Adapter:
    """The adapter of an environment's own steps; of several, for policies that act by the task, with its number."""
    spec = env.spec
    return of_rows(spec.observation, spec.action) if policy.by_task else env.adapter


def load(run_dir: str | Path, device: str = "cpu", *, checkpoint: str = "latest") -> LoadedPolicy:
    """The policy of a run's checkpoint: ``latest``, ``best`` or env_steps. Raises UserError if there is none.

    run_dir: or ``zoo/<name>``, see `reverie.run.zoo`, here and wherever a run is named.
    """
    run_dir = resolve(run_dir)
    config = load_config(run_dir)
    env = build_env(config, 1)
    shut(env)
    agent = build_agent(config, env.spec)
    policy = agent.policy()
    env_steps = load_parts(run_dir, checkpoint, policy=policy)
    adapter = adapter_of(env, policy)
    return LoadedPolicy(placed(policy, pick_device(device)).eval(), env.spec, env_steps, adapter=adapter)


def load_parts(run_dir: Path, checkpoint: str = "latest", /, **parts: nn.Module) -> int:
    """The env_steps of a run's checkpoint, whose parameters are given to parts of an agent.

    parts: by their names in the learner (``policy``, ``model``); what they share is given once. Nothing else of the
    checkpoint is read. Raises UserError if there is none, it is damaged, or its networks have other shapes.
    """
    folder = Checkpoints(run_dir).find(checkpoint)
    tree = load_tree(folder, tuple(f"trainer/learner/tensors/{name}." for name in parts))
    try:
        saved = tree["trainer"]["learner"]["tensors"]
        load_tensors(nn.ModuleDict(parts), {name: value for name, value in saved.items() if value is not None})
        return int(tree["env_steps"])
    except (KeyError, RuntimeError) as error:
        raise misfit(folder, error) from error
