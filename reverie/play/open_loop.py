"""Open-loop prediction of held-out sequences: the model sees a few rows, then only the actions that were taken.

::

    rows        0 ... context-1          context ... T-1
    the model   sees the observations    sees only the actions

Source: PlaNet section 6 and DreamerV2 appendix (open-loop video prediction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.agents.agent import Noise, Seat, placed
from reverie.agents.dreamerv2 import DreamerPolicy, DreamerV2
from reverie.agents.worldmodel import WorldModel
from reverie.config import Config
from reverie.data.rows import Rows, observations
from reverie.envs.env import VectorEnv
from reverie.errors import UserError
from reverie.nets.encoders import is_image
from reverie.play.load import load_parts
from reverie.report.prediction import Outcomes
from reverie.run.build import build_agent, build_env, derive, pick_device
from reverie.run.roles import Actor
from reverie.run.saved_config import load_config


@dataclass(frozen=True)
class Dreamer:
    """A run's policy and world model, environments of their kind, and the env_steps they were trained for.

    gamma: the discount that the model's continuations contain. noise: of its dreams.
    """

    config: Config
    env: VectorEnv
    policy: DreamerPolicy
    model: WorldModel
    gamma: float
    noise: Noise
    env_steps: int

    @property
    def images(self) -> list[str]:
        """Keys of the observations that are images."""
        return [key for key, space in self.env.spec.observation.items() if is_image(space)]


def load_dreamer(run_dir: Path, device: str, seed: int) -> Dreamer:
    """The newest networks of a run; `seed` decides the noise of its dreams.

    Raises UserError if the agent has no world model.
    """
    config = load_config(run_dir)
    env = build_env(config, 4)
    agent = build_agent(config, env.spec)
    if not isinstance(agent, DreamerV2):
        raise UserError(f"{config.name} has no world model to dream with")
    policy = agent.policy()
    model = agent.model(policy)
    env_steps = load_parts(run_dir, policy=policy, model=model)
    where = pick_device(device)
    noise = Noise(derive(seed, "dream"), where)
    return Dreamer(config, env, placed(policy, where), placed(model, where), agent.config.gamma, noise, env_steps)


def held_out(dreamer: Dreamer, count: int, context: int, horizon: int, seed: int, random: bool = False) -> list[Rows]:
    """`count` fresh sequences of context + 1 to context + horizon rows [T, ...], each within one episode.

    They begin at evenly spread rows: every context + horizon rows of a long episode, the first row of a short one.
    Played by the sampling policy, or by uniformly random actions. Fewer than `count` if ten times as many were too
    short. Raises UserError if all were.
    """
    env, length = dreamer.env, context + horizon
    sequences: list[Rows] = []
    streams: list[list[Rows]] = [[] for _ in range(env.num_envs)]
    ended = 0

    def sink(rows: Rows, which: np.ndarray | None, state: Any, version: int) -> None:
        nonlocal ended
        for i, stream in enumerate(range(env.num_envs) if which is None else which.tolist()):
            row = {name: value[i].copy() for name, value in rows.items()}
            if row["is_first"]:
                streams[stream] = []
            streams[stream].append(row)
            if len(streams[stream]) == length or row["is_last"]:
                part = streams[stream]
                if len(part) > context:
                    sequences.append({name: np.stack([r[name] for r in part]) for name in part[0]})
                streams[stream] = []
                ended += 1

    actor = Actor(env, dreamer.policy, sink, derive(seed, "held-out"))
    seat = Seat.alone(env.num_envs, "random" if random else "explore")
    actor.start()
    while len(sequences) < count and ended < 10 * count:
        actor.step(seat)
    if not sequences:
        raise UserError(
            f"episodes of {dreamer.config.env.id} are shorter than {context + 1} rows; use a smaller --context"
        )
    return sequences[:count]


@dataclass(frozen=True)
class OpenLoop:
    """What a model made of B sequences, T rows of the longest; rows before `context` are what it made of those seen.

    valid: bool [T, B], False after a sequence's end. true, predicted: observation key -> float32 [T, B, ...] as the
    networks see them; images are [T, B, C, H, W] in [-0.5, 0.5]. reward, predicted_reward: [T, B], transformed as the
    model learns it. continues: [T, B], 1 or 0; predicted_continuation: its probability, or None without such a head.
    """

    context: int
    valid: np.ndarray
    true: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    reward: np.ndarray
    predicted_reward: np.ndarray
    continues: np.ndarray
    predicted_continuation: np.ndarray | None

    def outcomes(self, horizon: int) -> Outcomes:
        """The dreamed rows, measured: arrays [horizon, B], invalid where T is shorter."""
        after = slice(self.context, None)
        missing = ((0, horizon - (len(self.valid) - self.context)), (0, 0))
        repeated = {
            key: _square(value[self.context - 1 : self.context] - value[after]) for key, value in self.true.items()
        }
        errors = {key: _square(self.predicted[key][after] - value[after]) for key, value in self.true.items()}
        chance = self.predicted_continuation
        return Outcomes(
            np.pad(self.valid[after], missing),
            {key: (np.pad(errors[key], missing), np.pad(repeated[key], missing)) for key in errors},
            np.pad(self.reward[after], missing),
            np.pad(self.predicted_reward[after], missing),
            np.pad(self.continues[after], missing),
            None if chance is None else np.pad(chance[after], missing),
        )


def _square(difference: np.ndarray) -> np.ndarray:
    """[T, B, ...] -> mean squares [T, B]."""
    return (difference**2).reshape(*difference.shape[:2], -1).mean(-1)


def open_loop(dreamer: Dreamer, sequences: Sequence[Rows], context: int) -> OpenLoop:
    """Dream B sequences of more than `context` rows at once, one dream of each."""
    model, policy, gamma = dreamer.model, dreamer.policy, dreamer.gamma
    lengths = np.array([len(sequence["reward"]) for sequence in sequences])
    longest, count = int(lengths.max()), len(sequences)
    rows = {name: torch.from_numpy(_stack([s[name] for s in sequences], longest)) for name in sequences[0]}
    rows = {name: value.to(policy.device) for name, value in rows.items()}
    # The model begins to see here, also in the middle of an episode.
    rows["is_first"][0] = True
    with torch.inference_mode():
        seen = {name: value[:context] for name, value in rows.items()}
        state = policy.initial_state(count)
        posterior, state = policy.unroll(state, seen, dreamer.noise)
        features = [model.rssm.feature({n: v[t] for n, v in posterior.items()}) for t in range(context)]
        for t in range(context, longest):
            u = dreamer.noise.uniform(count, model.rssm.latent.noise)
            state = model.rssm.imagine_step(state, policy.actions.encode(rows["prev_action"][t]), u)
            features.append(model.rssm.feature(state))
        feature = torch.stack(features)
        predicted = {key: mean.float() for key, mean in model.decoder(feature).items()}
        for key in model.encoder.images:
            predicted[key] = predicted[key].clamp(-0.5, 0.5)
        true = model.encoder.prepare(observations(rows))
        reward, dreamed = model.reward_transform(rows["reward"]), model.reward(feature)
        chance = None
        if model.discount is not None:
            # The head's target is gamma where the episode goes on.
            chance = (model.predicted_discount(feature, gamma) / gamma).clamp(max=1.0).float().cpu().numpy()
    return OpenLoop(
        context,
        np.arange(longest)[:, None] < lengths,
        {key: value.cpu().numpy() for key, value in true.items()},
        {key: value.cpu().numpy() for key, value in predicted.items()},
        reward.cpu().numpy(),
        dreamed.float().cpu().numpy(),
        (~rows["is_terminal"]).float().cpu().numpy(),
        chance,
    )


def _stack(parts: Sequence[np.ndarray], length: int) -> np.ndarray:
    """[T_i, ...] -> [length, B, ...], zeros after the end."""
    stacked = np.zeros((length, len(parts), *parts[0].shape[1:]), parts[0].dtype)
    for number, part in enumerate(parts):
        stacked[: len(part), number] = part
    return stacked


def frames(pictures: np.ndarray) -> np.ndarray:
    """Images as the networks see them, [..., C, H, W] in [-0.5, 0.5] -> uint8 [..., H, W, C]."""
    return np.moveaxis(np.rint((pictures + 0.5).clip(0, 1) * 255).astype(np.uint8), -3, -1)


def join(parts: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of several batches of sequences as one."""
    first = parts[0]

    def side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays, 1)

    chances = [part.predicted_continuation for part in parts if part.predicted_continuation is not None]
    return Outcomes(
        side_by_side([part.valid for part in parts]),
        {
            key: (
                side_by_side([part.observations[key][0] for part in parts]),
                side_by_side([part.observations[key][1] for part in parts]),
            )
            for key in first.observations
        },
        side_by_side([part.reward for part in parts]),
        side_by_side([part.predicted_reward for part in parts]),
        side_by_side([part.continues for part in parts]),
        side_by_side(chances) if chances else None,
    )
