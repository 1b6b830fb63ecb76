"""State-space models: what all memories of the dreaming line have in common, whatever their networks are.

::

    h_t = advance(h_{t-1}, z_{t-1}, a_{t-1})         prior p(z_t | h_t)         posterior q(z_t | h_t, e_t)

with h deterministic (``deter``), z stochastic (``stoch``), a an action, e the embedding of an observation. That is one
chain, `OneChain`; of a memory of several (`reverie.nets.factored_rssm`) only the steps are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from reverie.data.rows import State
from reverie.nets.latents import Latent, Stats


class StateSpace(nn.Module, ABC):
    """A memory. States are ``{"deter": [B, deter], "stoch": [B, size]}``, zero initially. features: width of those."""

    def __init__(self, deter: int, latent: Latent) -> None:
        super().__init__()
        self.deter, self.latent = deter, latent
        self.features = latent.size + deter

    @abstractmethod
    def feature(self, state: State) -> Tensor:
        """Features that every head reads, both parts side by side."""

    @abstractmethod
    def prior(self, deter: Tensor) -> Stats:
        """Parameters of p(z_t | h_t), any leading axes."""

    @abstractmethod
    def embedded(self, embed: Tensor) -> Tensor:
        """The observation's part of the posterior, which is one product over all rows of a sequence."""

    def reset_parameters(self) -> None:
        """First parameters that are not those of any layer; called after those have got theirs."""

    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """Zeros of both parts."""
        return {
            "deter": torch.zeros(batch, self.deter, device=device),
            "stoch": torch.zeros(batch, self.latent.size, device=device),
        }

    def first_state(self) -> State | None:
        """The state before an episode where it is learned, name -> [1, ...]; None: zeros."""
        return None

    def begin(self, state: State, action: Tensor, is_first: Tensor, first: State | None = None) -> tuple[State, Tensor]:
        """State and action before a row; where the row is_first (bool [B]), `first_state` and no action."""
        mask = (~is_first).to(action.dtype).unsqueeze(-1)
        before = {name: value * mask for name, value in state.items()}
        if first is not None:
            before = {name: value + first[name] * (1 - mask) for name, value in before.items()}
        return before, action * mask

    def observe_step(
        self, state: State, action: Tensor, is_first: Tensor, embed: Tensor, u: Tensor
    ) -> tuple[State, Stats]:
        """State and posterior after one step.

        action: [B, action] that led here. is_first: bool [B]. embed: [B, E]. u: [B, noise].
        """
        return self.observe_embedded(state, action, is_first, self.embedded(embed), u, self.first_state())

    @abstractmethod
    def observe_embedded(
        self, state: State, action: Tensor, is_first: Tensor, embedded: Tensor, u: Tensor, first: State | None = None
    ) -> tuple[State, Stats]:
        """State and posterior of `observe_step`, the observation's half of the posterior layer computed before."""

    def observe(
        self, state: State, action: Tensor, is_first: Tensor, embed: Tensor, u: Tensor
    ) -> tuple[State, Stats, State]:
        """Posterior states of rows, by a loop of `observe_step`.

        action: [T, B, action], is_first: bool [T, B], embed: [T, B, embed], u: uniform [T, B, noise].
        Returns posterior states (name -> [T, B, ...]), their statistics [T, B, ...], and the last state [B, ...].
        """
        embedded, first = self.embedded(embed), self.first_state()
        states, stats = [], []
        for t in range(len(action)):
            state, stat = self.observe_embedded(state, action[t], is_first[t], embedded[t], u[t], first)
            states.append(state)
            stats.append(stat)
        stacked = {name: torch.stack([s[name] for s in states]) for name in state}
        return stacked, tuple(torch.stack(parts) for parts in zip(*stats, strict=True)), state

    @abstractmethod
    def imagine_step(self, state: State, action: Tensor, u: Tensor) -> State:
        """State after one step of the prior. action: [B, action], u: [B, noise]."""

    @abstractmethod
    def likely_step(self, state: State, action: Tensor) -> State:
        """State after one step of the prior, with its most likely latent in place of a sample."""


class OneChain(StateSpace):
    """A memory whose steps are made of `advance`, `prior` and `posterior`."""

    @abstractmethod
    def advance(self, state: State, action: Tensor) -> Tensor:
        """Deterministic state h_t from the previous state and action (encoded, [B, action])."""

    @abstractmethod
    def posterior(self, deter: Tensor, embedded: Tensor) -> Stats:
        """Parameters of q(z_t | h_t, e_t); `embedded` is what `embedded` makes of e_t."""

    def observe_embedded(
        self, state: State, action: Tensor, is_first: Tensor, embedded: Tensor, u: Tensor, first: State | None = None
    ) -> tuple[State, Stats]:
        """State and posterior of `observe_step`, the observation's half of the posterior layer computed before."""
        deter = self.advance(*self.begin(state, action, is_first, first))
        stats = self.posterior(deter, embedded)
        return {"deter": deter, "stoch": self.latent.sample(stats, u)}, stats

    def imagine_step(self, state: State, action: Tensor, u: Tensor) -> State:
        """State after one step of the prior. action: [B, action], u: [B, noise]."""
        deter = self.advance(state, action)
        return {"deter": deter, "stoch": self.latent.sample(self.prior(deter), u)}

    def likely_step(self, state: State, action: Tensor) -> State:
        """State after one step of the prior, with its most likely latent in place of a sample."""
        deter = self.advance(state, action)
        return {"deter": deter, "stoch": self.latent.mode(self.prior(deter))}
