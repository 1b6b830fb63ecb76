"""The policy of every agent with a world model: it filters what it sees with the model's memory, and acts on that."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from reverie.agents.noise import Noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import State, observations
from reverie.nets.actions import Actions
from reverie.nets.encoders import Encoder
from reverie.nets.state_space import StateSpace


class FilterPolicy(Policy):
    """Encoder and RSSM. Of the noise of a step, the first numbers are the latents', the others those of `act`.

    acting: uniform numbers that `act` takes.
    """

    def __init__(self, encoder: Encoder, rssm: StateSpace, actions: Actions, acting: int) -> None:
        super().__init__()
        self.encoder, self.rssm = encoder, rssm
        self.actions = actions
        self.noise = rssm.latent.noise + acting

    def initial_state(self, batch: int) -> State:
        """Zeros (DreamerV2)."""
        return self.rssm.initial_state(batch, self.device)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream. Latents are sampled in evaluation too."""
        u = noise.uniform(len(rows["is_first"]), self.noise)
        seeing = self.rssm.latent.noise
        embed = self.encoder(observations(rows))
        action = self.actions.encode(rows["prev_action"])
        state, _ = self.rssm.observe_step(state, action, rows["is_first"], embed, u[..., :seeing])
        return Decision(self.actions.decode(self.act(state, u[..., seeing:], seat)), state)

    @abstractmethod
    def act(self, state: State, u: Tensor, seat: Seat) -> Tensor:
        """The encoded action [B, A] at a state. u: uniform [B, acting]."""

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[State, State]:
        """Posterior states [T, B, ...] and the last one."""
        u = noise.uniform(*rows["is_first"].shape, self.unroll_noise)
        embed = self.encoder(observations(rows))
        action = self.actions.encode(rows["prev_action"])
        u_latent = u[..., : self.rssm.latent.noise]
        states, _, last = self.rssm.observe(state, action, rows["is_first"], embed, u_latent)
        return states, last
