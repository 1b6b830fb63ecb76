"""The policy of every agent with a world model: it filters what it sees with the model's memory, and acts on that."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from reverie.agents.noise import Noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import ACTION_MASK, OBS, State, observations
from reverie.nets.actions import Actions
from reverie.nets.encoders import Encoder
from reverie.nets.state_space import StateSpace


class FilterPolicy(Policy):
    """Encoder and RSSM. Of the noise of a step, the first numbers are the latents', then the encoder's, then `act`'s.

    acting: uniform numbers that `act` takes. masked: take only actions that the observation ``action_mask`` allows.
    """

    def __init__(self, encoder: Encoder, rssm: StateSpace, actions: Actions, acting: int, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.encoder, self.rssm = encoder, rssm
        self.actions = actions
        self.seeing = rssm.latent.noise + encoder.noise
        self.noise = self.seeing + acting

    def initial_state(self, batch: int) -> State:
        """Zeros (DreamerV2)."""
        return self.rssm.initial_state(batch, self.device)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream. Latents are sampled in evaluation too."""
        u = noise.uniform(rows["is_first"].shape[0], self.noise)
        action = self.actions.encode(rows["prev_action"])
        u_latent, embed = u[..., : self.rssm.latent.noise], self.embed(rows, u)
        state, _ = self.rssm.observe_step(state, action, rows["is_first"], embed, u_latent)
        mask = rows[OBS + ACTION_MASK] if self.masked else None
        return Decision(self.actions.decode(self.act(state, u[..., self.seeing :], seat, mask)), state)

    def embed(self, rows: Mapping[str, Tensor], u: Tensor) -> Tensor:
        """Embeddings [..., E] of the observations of rows [...]. u: uniform [..., n], of which it takes the second."""
        prepared = self.encoder.prepare(observations(rows))
        return self.encoder.encode(self.encoder.dequantise(prepared, u[..., self.rssm.latent.noise : self.seeing]))

    @abstractmethod
    def act(self, state: State, u: Tensor, seat: Seat, mask: Tensor | None = None) -> Tensor:
        """The encoded action [B, A] at a state. u: uniform [B, acting]. mask: of the actions, if there is one."""

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[State, State]:
        """Posterior states [T, B, ...] and the last one."""
        u = noise.uniform(*rows["is_first"].shape, self.unroll_noise)
        action = self.actions.encode(rows["prev_action"])
        u_latent, embed = u[..., : self.rssm.latent.noise], self.embed(rows, u)
        states, _, last = self.rssm.observe(state, action, rows["is_first"], embed, u_latent)
        return states, last
