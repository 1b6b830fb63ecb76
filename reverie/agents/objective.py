"""Objectives: what a world model must say about observations, so that its memory holds what can be seen.

| objective | what it must say | its networks | can tell observations |
|---|---|---|---|
| `Reconstruction` | what they were (PlaNet, Dreamer V1-V3, HarmonyDream; a probe in RePo) | a decoder | yes |
| `Nothing` | nothing: reward, continuation and dynamics are all there is | none | no |
| `Prototypes` (`prototypes.py`) | to which prototypes they belong (DreamerPro) | projections, a slow encoder | no |
| `Redundancy` (`redundancy.py`) | their embeddings, entry by entry (R2-Dreamer) | a projection | no |

An objective owns all that belongs to it: its networks (slowly following copies of others too), its losses and their
weights among each other, its augmentation. Others are children of `Objective`, here or in another package; nothing else
of an agent has to know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.nets.decoders import Decoder
from reverie.nets.outputs import Output, UnitNormal


class Objective(nn.Module, ABC):
    """Losses of a model's states that only observations are needed for."""

    views: int = 1
    """how often a batch stands side by side in an update, [T, views B]: two for objectives that compare two views"""
    noise: int = 0
    """uniform numbers per row that `augment` takes"""
    silent: bool = False
    """whether there are no losses at all, so that there is nothing to weigh"""

    def augment(self, observations: Mapping[str, Tensor], u: Tensor) -> dict[str, Tensor]:
        """Prepared observations of a batch, key -> [T, views B, ...], as the encoder shall see them.

        u: uniform [T, views B, noise].
        """
        return dict(observations)

    @abstractmethod
    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalar losses by name, weighed among each other; their sum is the model's group ``observation``.

        rows: those that were seen, [T, views B, ...]; where is_first, a row has nothing to do with the one before it.
        """

    def means(self, features: Tensor, keys: Collection[str] | None = None) -> dict[str, Tensor]:
        """Predicted observations of features [..., F], as the networks read them; none if it cannot tell any.

        keys: of which; None: of all.
        """
        return {}

    @property
    def tells(self) -> bool:
        """Whether `means` predicts every observation."""
        return False

    def reset_parameters(self) -> None:
        """Copy networks: called once, after all of them have got their first parameters."""

    def after_update(self) -> None:
        """Step what follows the model slowly: called after each of its updates."""


class Reconstruction(Objective):
    """Negative log-likelihood of every observation, a mean over rows; sums over pixels and channels.

    outputs: what the decoder's numbers mean, by key. Source: DreamerV2, equation 2 (image log loss).
    """

    def __init__(self, decoder: Decoder, outputs: Mapping[str, Output]) -> None:
        super().__init__()
        self.decoder = decoder
        self.outputs = dict(outputs)

    @classmethod
    def gaussian(cls, decoder: Decoder, constant: bool) -> Reconstruction:
        """Reconstruction by Gaussians with variance 1 around every number; constant: as in `UnitNormal`."""
        images = {key: UnitNormal(3, constant) for key in decoder.images}
        return cls(decoder, images | {key: UnitNormal(1, constant) for key in decoder.vectors})

    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Negative log-likelihood of every key."""
        decoded = self.decoder(seen.features)
        return {key: self.outputs[key].loss(x, seen.observations[key]).mean() for key, x in decoded.items()}

    def means(self, features: Tensor, keys: Collection[str] | None = None) -> dict[str, Tensor]:
        """Means of every key, float32; those of images are cut off at the darkest and the brightest."""
        means = {key: self.outputs[key].mean(x) for key, x in self.decoder(features, keys).items()}
        return {key: x.clamp(-0.5, 0.5) if key in self.decoder.images else x for key, x in means.items()}

    @property
    def tells(self) -> bool:
        """True."""
        return True


class Nothing(Objective):
    """The memory holds what rewards and ends of episodes need, no more. Source: MuZero (Schrittwieser et al. 2020)."""

    silent = True

    def losses(self, seen: Seen, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """No losses."""
        return {}


def side_by_side(batch: Batch, views: int) -> Batch:
    """The batch `views` times, [T, views B, ...]."""
    if views == 1:
        return batch

    def repeat(tensors: State, axis: int) -> State:
        return {name: torch.cat([value] * views, axis) for name, value in tensors.items()}

    return replace(
        batch,
        rows=repeat(batch.rows, 1),
        start=None if batch.start is None else repeat(batch.start, 0),
        probes=None if batch.probes is None else repeat(batch.probes, 1),
    )
