"""What is played: a run's networks at a checkpoint, which all visitors share, and what to make environments with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.agents.actor_policy import ActorCriticPolicy
from reverie.agents.agent import Agent, placed
from reverie.agents.based import BasedAgent
from reverie.agents.dpg_policy import DPGPolicy
from reverie.agents.dreamer import Dreamer
from reverie.agents.filter_policy import FilterPolicy
from reverie.agents.q_policy import QPolicy
from reverie.agents.worldmodel import HasWorldModel
from reverie.config import Config
from reverie.data.dataset import Dataset
from reverie.data.rows import Rows, State
from reverie.envs.env import EnvSpec, VectorEnv, shut
from reverie.errors import UserError
from reverie.nets.encoders import is_image
from reverie.nets.latents import Gaussian
from reverie.ops.transforms import reward_transform
from reverie.play.envs import build_world, carried_of
from reverie.play.load import load_parts
from reverie.play.page.controls import Controls, controls
from reverie.play.page.minds import Critical, Dreaming, Mind, Steering, Valuing
from reverie.report.prediction import reward_threshold
from reverie.run.build import build_agent, build_env, pick_device
from reverie.run.checkpoint import Checkpoints
from reverie.run.saved_config import load_config
from reverie.run.zoo import resolve

BURN_IN = 40
"""rows of a burn-in where the run has none of its own (R2D2's)"""
FILES = 8
"""chunk files of the replay that are looked at for the smallest reward there is"""


@dataclass(frozen=True)
class Start:
    """Rows to begin from: `rows` [T, ...] of one stream; `at`: the row where play begins; memory: before the first."""

    rows: Rows
    at: int
    memory: State | None


class Subject:
    """A run to play with. Raises UserError if it has no checkpoint, or actions that nobody can steer."""

    def __init__(self, run_dir: Path, checkpoint: str = "latest", device: str = "cpu", seed: int = 0) -> None:
        self.run_dir, self.seed = resolve(run_dir), seed
        checkpoint = Checkpoints(self.run_dir).fixed(checkpoint)
        self.config: Config = load_config(self.run_dir)
        env = build_env(self.config, 1)
        shut(env)
        self.spec: EnvSpec = env.spec
        self.controls: Controls = controls(env.spec, env.action_names)
        self.images = [key for key, space in self.spec.observation.items() if is_image(space)]
        agent = build_agent(self.config, self.spec)
        self.mind, self.env_steps = _mind(self.run_dir, checkpoint, agent, self.config, pick_device(device))
        self.transform = self.mind.model.reward.transform if isinstance(self.mind, Dreaming) else "identity"
        self.threshold = self._threshold()
        self._carried = carried_of(self.run_dir, checkpoint)

    @property
    def dreams(self) -> bool:
        """Whether there are dreams to look at."""
        return isinstance(self.mind, Dreaming) and self.mind.model.objective.tells

    def environment(self) -> VectorEnv:
        """A fresh environment of one stream; where nothing of its observations is a picture, one that draws itself."""
        return build_world(self.config, 1, self._carried, drawn=not self.images)

    def learned(self, reward: float) -> float:
        """A reward as the model learns it."""
        return float(reward_transform(self.transform)(torch.tensor([reward]))[0])

    def start(self, number: int) -> Start:
        """Start at the row `number`, modulo their count, of the run's replay.

        It has rows before it, to warm a memory up, and those that follow, as far as their files go.
        Raises UserError if the run has no replay.
        """
        data = self._dataset()
        stream, index = data.place(number % len(data))
        chunk = data.chunk(stream, index)
        before = data.chunk(stream, chunk.start - 1) if chunk.start > data.begin(stream) else None
        parts = [chunk.rows] if before is None else [before.rows, chunk.rows]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in chunk.rows}
        begin = chunk.start if before is None else before.start
        at, states, memory = index - begin, chunk.states, None
        episode = int(np.flatnonzero(rows["is_first"][: at + 1])[-1]) if rows["is_first"][: at + 1].any() else 0
        first = max(episode, at - max(self.context, BURN_IN))
        if states and isinstance(self.mind, Valuing) and self.mind.remembers:
            period = self.config.replay.window.period
            grid = chunk.grid(period)
            k = int(np.searchsorted(grid, index, "right")) - 1
            if k >= 0 and grid[k] - begin >= first:
                # What the actor had then, with the parameters that it had then.
                first = at = int(grid[k]) - begin
                device = self.mind.policy.device
                memory = {name: torch.from_numpy(value[k : k + 1]).to(device) for name, value in states.items()}
        end = _end(rows, at)
        cut = {name: value[first:end] for name, value in rows.items()}
        return Start(cut, at - first, memory)

    @property
    def context(self) -> int:
        """Rows that a memory is warmed up with."""
        return self.mind.context if isinstance(self.mind, Valuing) else BURN_IN

    def describe(self) -> dict[str, Any]:
        """What the page says of it once."""
        spec, config = self.spec, self.config
        return {
            "run": self.run_dir.name,
            "agent": config.name,
            "env": spec.id,
            "env_steps": self.env_steps,
            "dreams": self.dreams,
            "lacks": list(self.mind.lacks),
            "controls": self.controls.document(),
            "images": self.images,
            "unit": self.mind.model.reward.unit if isinstance(self.mind, Dreaming) else "reward",
            "gaussian": isinstance(self.mind, Dreaming) and isinstance(self.mind.model.rssm.latent, Gaussian),
            "remembers": isinstance(self.mind, Valuing) and self.mind.remembers,
            "replay": any((self.run_dir / "replay").glob("*.chunk")),
            "random_score": spec.random_score,
            "optimal_score": spec.optimal_score,
            "numbers": {key: str(space) for key, space in spec.observation.items() if not is_image(space)},
        }

    def _dataset(self) -> Dataset:
        folder = self.run_dir / "replay"
        if not folder.is_dir() or not any(folder.glob("*.chunk")):
            raise UserError("this run has no replay to start from; start from a fresh episode")
        return Dataset(folder)

    def _threshold(self) -> float | None:
        """Magnitude from which a reward counts as one, as the model learns it; None if the replay tells of none.

        Half of the smallest that is not zero, in some of the replay's files.
        """
        paths = sorted((self.run_dir / "replay").glob("*.chunk"))[-FILES:]
        if not paths or not isinstance(self.mind, Dreaming):
            return None
        try:
            data = self._dataset()
            rewards = np.concatenate([next(data.chunks(stream)).rows["reward"] for stream in data.streams[:FILES]])
        except UserError:
            return None  # the run goes on meanwhile and has dropped a file; rewards that are met will tell
        return reward_threshold(reward_transform(self.transform)(torch.from_numpy(rewards)).numpy())


def _mind(run_dir: Path, checkpoint: str, agent: Agent, config: Config, device: torch.device) -> tuple[Mind, int]:
    """The mind of a checkpoint's policy, and the env_steps that it was trained for."""
    policy = agent.policy()
    if isinstance(agent, HasWorldModel) and isinstance(policy, FilterPolicy):
        model = agent.model(policy)
        critic = agent.critic(model.rssm.features) if isinstance(agent, Dreamer | BasedAgent) else None
        parts = {"policy": policy, "model": model, **({} if critic is None else {"critic": critic})}
        env_steps = load_parts(run_dir, checkpoint, **parts)
        for part in parts.values():
            placed(part, device).eval()
        return Dreaming(policy, model, None if critic is None else critic.mean), env_steps
    env_steps = load_parts(run_dir, checkpoint, policy=policy)
    placed(policy, device).eval()
    if isinstance(policy, QPolicy):
        return Valuing(policy, config.replay.window.context or BURN_IN), env_steps
    if isinstance(policy, ActorCriticPolicy):
        return Critical(policy), env_steps
    if isinstance(policy, DPGPolicy):
        return Steering(policy), env_steps
    return Mind(policy), env_steps


def _end(rows: Rows, at: int) -> int:
    """The row after the last one of the episode that the row `at` is in."""
    last = np.flatnonzero(rows["is_last"][at:])
    return at + int(last[0]) + 1 if len(last) else len(rows["reward"])
