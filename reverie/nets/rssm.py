"""The recurrent state-space model: what the dreaming line remembers with.

One step, with h deterministic (``deter``) and z stochastic (``stoch``)::

    x_t = act(W [z_{t-1}; a_{t-1}])          h_t = GRU(x_t, h_{t-1})
    prior      p(z_t | h_t)      = latent(MLP(h_t))
    posterior  q(z_t | h_t, e_t) = latent(MLP([h_t; e_t]))          e_t: embedding of the observation

Where a row is_first, the previous state *and* the previous action are zeroed before the step.
Source: PlaNet section 2.2; DreamerV2 sections 2.1 and appendix; gates as in the official codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.data.rows import State
from reverie.nets.gru_cells import ResetAfterGRU, ResetBeforeGRU
from reverie.nets.latents import Categorical, Gaussian, Latent, Stats, StdKind
from reverie.nets.layers import MLP, Act, Norm, activation, norm_of
from reverie.nets.rssm_unroll import Entering, Form, Weights, unroll
from reverie.nets.state_space import OneChain
from reverie.ops.precision import full
from reverie.values import Count, Share

CellKind = Literal["norm", "reset_after", "reset_before"]


@dataclass(frozen=True)
class RSSMConfig:
    """deter: GRU width. hidden: width of the layers around it. latent: distribution of the stochastic state.

    stoch: its variables. classes: values of each, if categorical. unimix: share of a uniform distribution in each.
    act: activation. norm: normalise layers around the GRU too.
    std: of Gaussian latents, see `reverie.nets.latents.Gaussian`.
    cell: ``norm``, DreamerV2's `GRUCell`; or a plain one of `reverie.nets.gru_cells`, ``reset_after`` (Dreamer V1) or
        ``reset_before`` (PlaNet).
    """

    deter: Count = 600
    hidden: Count = 600
    latent: Literal["categorical", "gaussian"] = "categorical"
    stoch: Count = 32
    classes: Count = 32
    unimix: Share = 0.0
    act: Act = "elu"
    norm: Norm = False
    std: StdKind = "sigmoid2"
    cell: CellKind = "norm"


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

    def reset_parameters(self) -> None:
        """First parameters are those of any linear layer and norm."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Next state [B, units]. x: [B, inputs], h: [B, units]."""
        reset, candidate, update = self.norm(full(self.linear(torch.cat([x, h], -1)))).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(h, candidate, torch.sigmoid(update + self.update_bias))


PLAIN: dict[str, type[ResetAfterGRU] | type[ResetBeforeGRU]] = {
    "reset_after": ResetAfterGRU,
    "reset_before": ResetBeforeGRU,
}
Cell = GRUCell | ResetAfterGRU | ResetBeforeGRU


def make_cell(config: RSSMConfig) -> Cell:
    """The cell of a memory. Raises ValueError for an unknown one."""
    if config.cell == "norm":
        return GRUCell(config.hidden, config.deter, bias=config.norm != "layer")
    if config.cell not in PLAIN:
        raise ValueError(f"cell must be one of norm, {', '.join(PLAIN)}, got {config.cell!r}")
    return PLAIN[config.cell](config.hidden, config.deter)


def glorot_split_(*parts: nn.Linear) -> None:
    """Draw Glorot's first weights of a layer that is kept in parts, by its inputs; each has all of its outputs."""
    bound = (6 / (sum(part.in_features for part in parts) + parts[0].out_features)) ** 0.5
    for part in parts:
        nn.init.uniform_(part.weight, -bound, bound)


STEPS = ("begin", "advance", "posterior", "observe_embedded")
"""methods that a loop over rows calls, and `unroll` does not"""


class RSSM(OneChain):
    """The memory of PlaNet, Dreamer V1 and V2."""

    def __init__(self, embed: int, action: int, config: RSSMConfig) -> None:
        latent: Latent = (
            Categorical(config.stoch, config.classes, config.unimix)
            if config.latent == "categorical"
            else Gaussian(config.stoch, config.std)
        )
        super().__init__(config.deter, latent)
        self.config = config
        self.act = activation(config.act)
        self.inputs = MLP(self.latent.size + action, 1, config.hidden, config.act, config.norm)
        self.cell: Cell = make_cell(config)
        self.prior_hidden = MLP(config.deter, 1, config.hidden, config.act, config.norm)
        self.prior_out = nn.Linear(config.hidden, self.latent.params)
        # The first posterior layer acts on [h; e]; its two halves are kept apart so that the observation's half is one
        # product over all rows of a sequence instead of one per row. Together they are one layer (and one fan-in).
        self.post_deter = nn.Linear(config.deter, config.hidden, bias=config.norm != "layer")
        self.post_embed = nn.Linear(embed, config.hidden, bias=False)
        self.post_norm = norm_of(config.norm, config.hidden)
        self.post_out = nn.Linear(config.hidden, self.latent.params)

    def reset_parameters(self) -> None:
        """Glorot-initialise the split posterior layer as the single layer [h; e] -> hidden that it is; and the cell."""
        glorot_split_(self.post_deter, self.post_embed)
        self.cell.reset_parameters()

    def feature(self, state: State) -> Tensor:
        """Features [z; h]."""
        return torch.cat([state["stoch"], state["deter"]], -1)

    def advance(self, state: State, action: Tensor) -> Tensor:
        """Deterministic state h_t from the previous state and action (encoded, [B, action])."""
        x = self.inputs(torch.cat([state["stoch"], self.taken(action)], -1))
        return self.cell(x, state["deter"])

    def taken(self, action: Tensor) -> Tensor:
        """The action as the memory reads it; here as it is."""
        return action

    def prior(self, deter: Tensor) -> Stats:
        """Parameters of p(z_t | h_t), any leading axes."""
        return self.latent.stats(self.prior_out(self.prior_hidden(deter)))

    def embedded(self, embed: Tensor) -> Tensor:
        """The observation's half of the posterior's first layer."""
        return self.post_embed(embed)

    def posterior(self, deter: Tensor, embedded: Tensor) -> Stats:
        """Parameters of q(z_t | h_t, e_t); `embedded` is what `embedded` makes of e_t."""
        hidden = self.act(self.post_norm(self.post_deter(deter) + embedded))
        return self.latent.stats(self.post_out(hidden))

    def observe(
        self, state: State, action: Tensor, is_first: Tensor, embed: Tensor, u: Tensor
    ) -> tuple[State, Stats, State]:
        """Posterior states of rows, at once if `reverie.nets.rssm_unroll` can; exporters and compilers see loops."""
        form = None if torch.compiler.is_exporting() else self._form()
        if form is None:
            return super().observe(state, action, is_first, embed, u)
        mask, first = (~is_first).to(action.dtype).unsqueeze(-1), self.first_state() or {}
        into = self.inputs.layers[0]
        assert isinstance(into, nn.Linear)
        driven = F.linear(self.taken(action * mask), into.weight[:, self.latent.size :], into.bias)
        embedded, bias = self.embedded(embed), self.post_deter.bias
        if bias is not None:
            embedded = embedded + bias.to(embedded.dtype)
        entering = Entering(mask, state["deter"], state["stoch"], first.get("deter"), first.get("stoch"))
        deter, stoch, out = unroll(form, self._weights(), driven, embedded, u, entering)
        states = {"deter": deter, "stoch": stoch}
        return states, self.latent.stats(out), {name: value[-1] for name, value in states.items()}

    def _form(self) -> Form | None:
        """What `unroll` must know, if all parts are such as it has and no step is overridden or compiled."""
        own = all(getattr(getattr(self, name), "__func__", None) is getattr(RSSM, name) for name in STEPS)
        if own and type(self.cell) is GRUCell and type(self.latent) is Categorical and self.config.norm != "rms":
            return Form(self.config.act, self.latent, self.cell.update_bias)
        return None

    def _weights(self) -> Weights:
        into, cell = self.inputs.layers[0], self.cell
        assert isinstance(into, nn.Linear)
        assert isinstance(cell, GRUCell)
        return Weights(
            into.weight[:, : self.latent.size],
            *_affine(self.inputs.norms[0]),
            *(cell.linear.weight, cell.linear.bias, cell.norm.weight, cell.norm.bias),
            self.post_deter.weight,
            *_affine(self.post_norm),
            *(self.post_out.weight, self.post_out.bias),
        )


def _affine(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift of a LayerNorm, or nothing."""
    return (norm.weight, norm.bias) if isinstance(norm, nn.LayerNorm) else (None, None)
