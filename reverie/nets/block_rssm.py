"""The memory of DreamerV3 since 2024: a GRU whose weights are block-diagonal, after layers that mix everything.

::

    x = [act(norm(W_h h)), act(norm(W_z z)), act(norm(W_a a))]               each to `hidden`
    y = act(norm(blocks([h_1; x], ..., [h_8; x])))           every block sees its share of h, and all of x
    (r, c, u) = blocks(y), per block;   h' = u' tanh(sigmoid(r) c) + (1 - u') h   with u' = sigmoid(u - 1)
    prior      p(z | h)    = latent(MLP of 2 layers of h)
    posterior  q(z | h, e) = latent(MLP of 1 layer of [h; e])

Source: Hafner et al. 2025 (DreamerV3), Nature 640, "Methods", and the released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.data.rows import State
from reverie.nets.latents import Categorical, Stats
from reverie.nets.layers import MLP, BlockLinear, activation, norm_of
from reverie.nets.learned_start import bounded
from reverie.nets.state_space import OneChain


@dataclass(frozen=True)
class BlockRSSMConfig:
    """deter: width of h, in `blocks` equal parts. hidden: of the layers around it. stoch x classes: the latent."""

    deter: int = 8192
    hidden: int = 1024
    stoch: int = 32
    classes: int = 64
    unimix: float = 0.01
    blocks: int = 8

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.deter % self.blocks:
            raise ValueError(f"deter must be a multiple of the {self.blocks} blocks, got {self.deter}")


class BlockGRU(nn.Module):
    """GRU whose layers are block-diagonal: (h [B, deter], x [B, inputs]) -> h [B, deter]."""

    def __init__(self, deter: int, inputs: int, blocks: int, update_bias: float = -1.0) -> None:
        super().__init__()
        self.blocks, self.update_bias = blocks, update_bias
        self.mix = BlockLinear(deter + blocks * inputs, deter, blocks)
        self.norm = norm_of("rms", deter)
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """Next state."""
        before = self._parts(h)
        seen = torch.cat([before, x.expand(self.blocks, -1, -1)], -1)
        y = F.silu(self.norm(self._whole(self.mix.apart(seen))))
        reset, candidate, update = self.gates.apart(self._parts(y)).float().chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return self._whole(torch.lerp(before.float(), candidate, torch.sigmoid(update + self.update_bias)))

    def _parts(self, x: Tensor) -> Tensor:
        """[B, deter] -> [blocks, B, deter / blocks]."""
        return x.unflatten(-1, (self.blocks, -1)).transpose(0, 1)

    def _whole(self, parts: Tensor) -> Tensor:
        """Inverse of `_parts`."""
        return parts.transpose(0, 1).flatten(-2)


class BlockRSSM(OneChain):
    """A memory with a `BlockGRU`; states are zero before an episode."""

    def __init__(self, embed: int, action: int, config: BlockRSSMConfig) -> None:
        super().__init__(config.deter, Categorical(config.stoch, config.classes, config.unimix))
        hidden, params = config.hidden, self.latent.params
        self.config, self.act = config, activation("silu")
        self.of_deter = MLP(config.deter, 1, hidden, "silu", "rms")
        self.of_stoch = MLP(self.latent.size, 1, hidden, "silu", "rms")
        self.of_action = MLP(action, 1, hidden, "silu", "rms")
        self.cell = BlockGRU(config.deter, 3 * hidden, config.blocks)
        self.prior_hidden = MLP(config.deter, 2, hidden, "silu", "rms")
        self.prior_out = nn.Linear(hidden, params)
        # One layer on [h; e], whose columns are read apart, see `embedded`; one tensor, so that it is clipped as one.
        self.post_hidden = nn.Linear(config.deter + embed, hidden)
        self.post_norm = norm_of("rms", hidden)
        self.post_out = nn.Linear(hidden, params)

    def feature(self, state: State) -> Tensor:
        """Features [h; z]."""
        return torch.cat([state["deter"], state["stoch"]], -1)

    def advance(self, state: State, action: Tensor) -> Tensor:
        """Deterministic state from the previous state and the bounded action."""
        deter, stoch = state["deter"], state["stoch"]
        x = torch.cat([self.of_deter(deter), self.of_stoch(stoch), self.of_action(bounded(action))], -1)
        return self.cell(deter, x)

    def prior(self, deter: Tensor) -> Stats:
        """Logits of p(z | h), any leading axes."""
        return self.latent.stats(self.prior_out(self.prior_hidden(deter)))

    def embedded(self, embed: Tensor) -> Tensor:
        """The embedding's part of the posterior's layer, with its bias."""
        return F.linear(embed, self.post_hidden.weight[:, self.deter :], self.post_hidden.bias)

    def posterior(self, deter: Tensor, embedded: Tensor) -> Stats:
        """Logits of q(z | h, e)."""
        x = F.linear(deter, self.post_hidden.weight[:, : self.deter]) + embedded
        return self.latent.stats(self.post_out(self.act(self.post_norm(x))))
