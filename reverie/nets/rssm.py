"""The recurrent state-space model: what the dreaming line remembers with.

One step, with h deterministic (``deter``) and z stochastic (``stoch``)::

    x_t = act(W [z_{t-1}; a_{t-1}])          h_t = GRU(x_t, h_{t-1})
    prior      p(z_t | h_t)      = latent(MLP(h_t))
    posterior  q(z_t | h_t, e_t) = latent(MLP([h_t; e_t]))          e_t: embedding of the observation

Where a row is_first, the previous state *and* the previous action are zeroed before the step.
Source: PlaNet section 2.2; DreamerV2 sections 2.1 and appendix; gates as in the official code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reverie.data.rows import State
from reverie.nets.latents import Categorical, Gaussian, Latent, Stats
from reverie.nets.layers import MLP, Norm, activation, norm_of


@dataclass(frozen=True)
class RSSMConfig:
    """deter: GRU width. hidden: width of the layers around it. latent: distribution of the stochastic state.

    stoch: its variables. classes: values of each, if categorical. unimix: share of a uniform distribution in each.
    act: activation. norm: normalise layers around the GRU too.
    """

    deter: int = 600
    hidden: int = 600
    latent: Literal["categorical", "gaussian"] = "categorical"
    stoch: int = 32
    classes: int = 32
    unimix: float = 0.0
    act: str = "elu"
    norm: Norm = False


class GRUCell(nn.Module):
    """Layer-normalised GRU whose reset gate multiplies the mixed candidate, and whose update gate is biased to keep.

    (r, c, u) = LayerNorm(W [x; h] + b);  h' = u * tanh(sigmoid(r) * c) + (1 - u) * h  with u = sigmoid(u - 1).
    A stock GRU cell resets h before mixing and is not equivalent. Source: DreamerV2 code (GRUCell, norm=True).
    """

    def __init__(self, inputs: int, units: int, update_bias: float = -1.0, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + units, 3 * units, bias=bias)
        self.norm = nn.LayerNorm(3 * units, eps=1e-3)
        self.update_bias = update_bias

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Next state [B, units]. x: [B, inputs], h: [B, units]."""
        reset, candidate, update = self.norm(self.linear(torch.cat([x, h], -1)).float()).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(h, candidate, torch.sigmoid(update + self.update_bias))


class RSSM(nn.Module):
    """The model's memory. States are ``{"deter": [B, deter], "stoch": [B, size]}``, zero initially."""

    def __init__(self, embed: int, action: int, config: RSSMConfig) -> None:
        super().__init__()
        self.config = config
        self.latent: Latent = (
            Categorical(config.stoch, config.classes, config.unimix)
            if config.latent == "categorical"
            else Gaussian(config.stoch)
        )
        self.act = activation(config.act)
        self.inputs = MLP(self.latent.size + action, 1, config.hidden, config.act, config.norm)
        biased = config.norm != "layer"
        self.cell = GRUCell(config.hidden, config.deter, bias=biased)
        self.prior_hidden = MLP(config.deter, 1, config.hidden, config.act, config.norm)
        self.prior_out = nn.Linear(config.hidden, self.latent.params)
        # The first posterior layer acts on [h; e]; its two halves are kept apart so that the observation's half is one
        # product over all rows of a sequence instead of one per row. Together they are one layer (and one fan-in).
        self.post_deter = nn.Linear(config.deter, config.hidden, bias=biased)
        self.post_embed = nn.Linear(embed, config.hidden, bias=False)
        self.post_norm = norm_of(config.norm, config.hidden)
        self.post_out = nn.Linear(config.hidden, self.latent.params)
        self.features = self.latent.size + config.deter

    def reset_parameters(self) -> None:
        """Glorot-initialise the split posterior layer as the single layer [h; e] -> hidden that it is."""
        bound = (6 / (self.post_deter.in_features + self.post_embed.in_features + self.config.hidden)) ** 0.5
        nn.init.uniform_(self.post_deter.weight, -bound, bound)
        nn.init.uniform_(self.post_embed.weight, -bound, bound)

    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """Zeros of both parts."""
        return {
            "deter": torch.zeros(batch, self.config.deter, device=device),
            "stoch": torch.zeros(batch, self.latent.size, device=device),
        }

    def feature(self, state: State) -> Tensor:
        """Features [z; h] that every head reads."""
        return torch.cat([state["stoch"], state["deter"]], -1)

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

    def advance(self, state: State, action: Tensor) -> Tensor:
        """Deterministic state h_t from the previous state and action (encoded, [B, action])."""
        x = self.inputs(torch.cat([state["stoch"], action], -1))
        return self.cell(x, state["deter"])

    def prior(self, deter: Tensor) -> Stats:
        """Parameters of p(z_t | h_t), any leading axes."""
        return self.latent.stats(self.prior_out(self.prior_hidden(deter)))

    def posterior(self, deter: Tensor, embedded: Tensor) -> Stats:
        """Parameters of q(z_t | h_t, e_t); `embedded` is `post_embed(e_t)`."""
        hidden = self.act(self.post_norm(self.post_deter(deter) + embedded))
        return self.latent.stats(self.post_out(hidden))

    def observe_step(
        self, state: State, action: Tensor, is_first: Tensor, embed: Tensor, u: Tensor
    ) -> tuple[State, Stats]:
        """State and posterior after one step.

        action: [B, action] that led here. is_first: bool [B]. embed: [B, E]. u: [B, noise].
        """
        return self.observe_embedded(state, action, is_first, self.post_embed(embed), u, self.first_state())

    def observe_embedded(
        self, state: State, action: Tensor, is_first: Tensor, embedded: Tensor, u: Tensor, first: State | None = None
    ) -> tuple[State, Stats]:
        """State and posterior of `observe_step`, the observation's half of the posterior layer computed before."""
        deter = self.advance(*self.begin(state, action, is_first, first))
        stats = self.posterior(deter, embedded)
        return {"deter": deter, "stoch": self.latent.sample(stats, u)}, stats

    def observe(
        self, state: State, action: Tensor, is_first: Tensor, embed: Tensor, u: Tensor
    ) -> tuple[State, Stats, State]:
        """Posterior states of rows, by a loop of `observe_step`.

        action: [T, B, action], is_first: bool [T, B], embed: [T, B, embed], u: uniform [T, B, noise].
        Returns posterior states (name -> [T, B, ...]), their statistics [T, B, ...], and the last state [B, ...].
        """
        embedded, first = self.post_embed(embed), self.first_state()
        states, stats = [], []
        for t in range(len(action)):
            state, stat = self.observe_embedded(state, action[t], is_first[t], embedded[t], u[t], first)
            states.append(state)
            stats.append(stat)
        stacked = {name: torch.stack([s[name] for s in states]) for name in state}
        return stacked, tuple(torch.stack(parts) for parts in zip(*stats, strict=True)), state

    def imagine_step(self, state: State, action: Tensor, u: Tensor) -> State:
        """State after one step of the prior. action: [B, action], u: [B, noise]."""
        deter = self.advance(state, action)
        return {"deter": deter, "stoch": self.latent.sample(self.prior(deter), u)}
