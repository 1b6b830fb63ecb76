"""The policy of the dreaming line: it filters what it sees with the model's memory, and its actor reads that."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from reverie.agents.noise import Noise
from reverie.agents.policy import Decision, Policy, Seat
from reverie.data.rows import State, observations
from reverie.nets.actions import Actions
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head
from reverie.nets.rssm import RSSM


class DreamerPolicy(Policy):
    """Encoder, RSSM and actor: what acts in the environment."""

    def __init__(self, encoder: Encoder, rssm: RSSM, actor: Head, actions: Actions) -> None:
        super().__init__()
        self.encoder, self.rssm, self.actor = encoder, rssm, actor
        self.actions = actions
        self.noise = self.rssm.latent.noise + actions.noise

    def initial_state(self, batch: int) -> State:
        """Zeros (DreamerV2)."""
        return self.rssm.initial_state(batch, self.device)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """One decision per stream. Latents are sampled in evaluation too; ``greedy`` takes the likeliest action."""
        u = noise.uniform(len(rows["is_first"]), self.noise)
        u_latent, u_action = u.split([self.rssm.latent.noise, self.actions.noise], -1)
        embed = self.encoder(observations(rows))
        action = self.actions.encode(rows["prev_action"])
        state, _ = self.rssm.observe_step(state, action, rows["is_first"], embed, u_latent)
        return Decision(self.actions.decode(self.act(state, u_action, seat)), state)

    def act(self, state: State, u: Tensor, seat: Seat) -> Tensor:
        """The encoded action [B, A] at a state."""
        if seat.play == "random":
            return self.actions.uniform(u)
        out = self.actor(self.rssm.feature(state))
        return self.actions.sample(out, u) if seat.play == "explore" else self.actions.mode(out)

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[State, State]:
        """Posterior states [T, B, ...] and the last one."""
        u = noise.uniform(*rows["is_first"].shape, self.noise)
        embed = self.encoder(observations(rows))
        action = self.actions.encode(rows["prev_action"])
        u_latent = u[..., : self.rssm.latent.noise]
        states, _, last = self.rssm.observe(state, action, rows["is_first"], embed, u_latent)
        return states, last
