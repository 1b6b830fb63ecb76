"""Rows as a world model has seen them: the one thing that its losses, its objective and its dreams read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from reverie.data.rows import State
from reverie.nets.latents import Stats


@dataclass(frozen=True)
class Seen:
    """Rows [T, B], filtered by a world model.

    states: posterior states, name -> [T, B, ...]; last: the last of them, [B, ...].
    posterior, prior: parameters of q(z_t | h_t, e_t) and p(z_t | h_t), each [T, B, ...].
    features: of the states, [T, B, F], what every head reads. embed: of the observations, [T, B, E].
    observations: as the networks read them (`Encoder.prepare`), augmented if the objective does so, key -> [T, B, ...].
    action: encoded, the one that led to each row, [T, B, A].
    """

    states: State
    posterior: Stats
    prior: Stats
    features: Tensor
    embed: Tensor
    observations: Mapping[str, Tensor]
    action: Tensor
    last: State

    def starts(self) -> State:
        """The posterior states of all rows, [T B, ...], without a gradient: where dreams begin."""
        return {name: value.detach().flatten(0, 1) for name, value in self.states.items()}

    def since(self, row: int) -> Seen:
        """Copy without the rows before this one."""
        return replace(
            self,
            states={name: value[row:] for name, value in self.states.items()},
            posterior=tuple(value[row:] for value in self.posterior),
            prior=tuple(value[row:] for value in self.prior),
            features=self.features[row:],
            embed=self.embed[row:],
            observations={key: value[row:] for key, value in self.observations.items()},
            action=self.action[row:],
        )

    def apart(self) -> Seen:
        """Copy whose features and embeddings carry no gradient: for what must shape neither memory nor encoder."""
        return replace(self, features=self.features.detach(), embed=self.embed.detach())
