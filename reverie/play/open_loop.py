"""Open-loop prediction of held-out sequences: the model sees a few rows, then only the actions that were taken.

::

    rows        0 ... context-1          context ... T-1
    the model   sees the observations    sees only the actions

Source: PlaNet section 6 and DreamerV2 appendix (open-loop video prediction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reverie.data.rows import Rows
from reverie.play.model import LoadedModel
from reverie.report.prediction import Outcomes


@dataclass(frozen=True)
class OpenLoop:
    """Predictions of B sequences, T rows of the longest; rows before `context` are what the model made of those seen.

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
    """Mean squares [T, B] of differences [T, B, ...]."""
    return (difference**2).reshape(*difference.shape[:2], -1).mean(-1)


def open_loop(loaded: LoadedModel, sequences: Sequence[Rows], context: int) -> OpenLoop:
    """Predictions of B sequences of more than `context` rows, dreamed at once, one dream of each."""
    model, noise = loaded.model, loaded.noise
    lengths = np.array([len(sequence["reward"]) for sequence in sequences])
    longest, count = int(lengths.max()), len(sequences)
    rows = {name: torch.from_numpy(_stack([s[name] for s in sequences], longest)) for name in sequences[0]}
    rows = {name: value.to(model.device) for name, value in rows.items()}
    # The model begins to see here, also in the middle of an episode.
    rows["is_first"][0] = True
    with torch.inference_mode():
        action = model.actions.encode(rows["prev_action"])
        u = noise.uniform(context, count, loaded.policy.unroll_noise)
        first = {name: value[:context] for name, value in rows.items()}
        seen = model.observe(model.initial_state(count), action[:context], first, u)
        state, dreamed = seen.last, []
        for t in range(context, longest):
            state = model.imagine(state, action[t], noise.uniform(count, model.latent_noise))
            dreamed.append(state)
        states = {name: torch.cat([v, torch.stack([s[name] for s in dreamed])]) for name, v in seen.states.items()}
        predicted, true = model.predict(states), model.truth(rows)
    assert true.continuation is not None
    chance = predicted.continuation
    return OpenLoop(
        context,
        np.arange(longest)[:, None] < lengths,
        {key: true.observations[key].cpu().numpy() for key in predicted.observations},
        {key: value.cpu().numpy() for key, value in predicted.observations.items()},
        true.reward.cpu().numpy(),
        predicted.reward.cpu().numpy(),
        true.continuation.cpu().numpy(),
        None if chance is None else chance.float().cpu().numpy(),
    )


def _stack(parts: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Stack [length, B, ...] of arrays [T_i, ...], zeros after the end."""
    stacked = np.zeros((length, len(parts), *parts[0].shape[1:]), parts[0].dtype)
    for number, part in enumerate(parts):
        stacked[: len(part), number] = part
    return stacked


def frames(pictures: np.ndarray) -> np.ndarray:
    """Frames uint8 [..., H, W, C] of images as the networks see them, [..., C, H, W] in [-0.5, 0.5]."""
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
