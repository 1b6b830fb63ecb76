"""Actions: how each space is encoded for a model, and the distribution its policy head parameterises."""

from __future__ import annotations

import math
from typing import Literal

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from reverie.nets.layers import one_hot
from reverie.ops import distributions as D

ContinuousKind = Literal["trunc_normal", "tanh_normal", "normal"]
BoundedKind = Literal["trunc_normal", "tanh_normal"]
"""of them those whose samples are within [-1, 1], as the memories of PlaNet, Dreamer V1 and V2 want actions"""


def legal(mask: Tensor) -> Tensor:
    """Actions that may be taken, bool [..., n], of a mask of 0 and 1; all where it allows none (closing rows)."""
    allowed = mask > 0.5
    return allowed | ~allowed.any(-1, keepdim=True)


class DiscreteActions:
    """One or several one-hot categoricals (Discrete, MultiDiscrete). Encoded actions are concatenated one-hots.

    Source: DreamerV2 (one-hot actor, straight-through); MultiDiscrete as independent factors.
    """

    discrete = True

    def __init__(self, nvec: list[int], scalar: bool, unimix: float = 0.0) -> None:
        self.nvec, self.scalar, self.unimix = nvec, scalar, unimix
        self.size = self.params = sum(nvec)
        self.noise = len(nvec)

    def _factors(self, x: Tensor) -> list[Tensor]:
        parts = [part.float() for part in x.split(self.nvec, -1)]
        if not self.unimix:
            return parts
        mixed = [D.unimix_logits(part, self.unimix) for part in parts]
        return [torch.where(part == -torch.inf, part, mix) for part, mix in zip(parts, mixed, strict=True)]

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Outputs [..., params] that give no probability to what the mask, `legal` [..., params] of it, forbids."""
        allowed = torch.cat([legal(part) for part in mask.split(self.nvec, -1)], -1)
        return x.float().masked_fill(~allowed, -torch.inf)

    def encode(self, action: Tensor) -> Tensor:
        """Encoded actions, float32 [..., size], of int64 [...] or [..., K]."""
        parts = [action] if self.scalar else list(action.unbind(-1))
        return torch.cat([one_hot(part, n) for part, n in zip(parts, self.nvec, strict=True)], -1)

    def decode(self, encoded: Tensor) -> Tensor:
        """Inverse of `encode`."""
        parts = [part.argmax(-1) for part in encoded.split(self.nvec, -1)]
        return parts[0] if self.scalar else torch.stack(parts, -1)

    def sample(self, x: Tensor, u: Tensor) -> Tensor:
        """Encoded action, straight-through, from head outputs [..., params] and uniform noise [..., noise]."""
        factors = self._factors(x)
        return torch.cat([D.one_hot_straight_through(f, u[..., i]) for i, f in enumerate(factors)], -1)

    def uniform(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """Uniformly random encoded action, of those that the mask allows, from noise [..., noise]."""
        x = u.new_zeros(*u.shape[:-1], self.params)
        return self.sample(x if mask is None else self.masked(x, mask), u)

    def uniform_log_prob(self, encoded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities [...] of actions [..., size] as `uniform` draws them."""
        x = torch.zeros_like(encoded)
        return self.log_prob(x if mask is None else self.masked(x, mask), encoded)

    def mode(self, x: Tensor) -> Tensor:
        """The likeliest encoded action."""
        return torch.cat([D.one_hot_mode(f) for f in self._factors(x)], -1)

    def log_prob(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Log-probabilities [...] of actions [..., size] under outputs [..., params]."""
        parts = encoded.split(self.nvec, -1)
        return torch.stack(
            [D.categorical_log_prob(f, part) for f, part in zip(self._factors(x), parts, strict=True)]
        ).sum(0)

    def entropy(self, x: Tensor) -> Tensor:
        """Entropy [...] in nats of outputs [..., params]."""
        return torch.stack([D.categorical_entropy(f) for f in self._factors(x)]).sum(0)


class ContinuousActions:
    """A Box normalised to [-1, 1]; truncated normal (DreamerV2), tanh normal (Dreamer V1, older V2) or normal (V3).

    trunc_normal: mean tanh(m), std 2 sigmoid(s / 2) + min_std; 1.1 at s = 0.
    tanh_normal: mean 5 tanh(m / 5), std softplus(s) + min_std; 0.79 at s = 0. Both are of the normal before squashing.
    normal: mean tanh(m), std (1 - min_std) sigmoid(s + 2) + min_std, 0.89 at s = 0; not bounded: the environment gets
        it cut off at -1 and 1, and so do the memories of both V3 (`reverie.nets.learned_start.bounded`).
    init_std: of tanh_normal, what softplus gives at s = 0 (softplus^-1(init_std) is added to s); 0 adds nothing.
    Source: DreamerV2 code, common.DistLayer, with its init_std of 0 and min_std of 0.1; Dreamer V1 code, ActionDecoder,
    with 5 and 1e-4. Raises ValueError for another kind, a negative init_std, or one that the kind does not have.
    """

    discrete = False

    def __init__(
        self, size: int, kind: ContinuousKind = "trunc_normal", min_std: float = 0.1, init_std: float = 0.0
    ) -> None:
        if kind not in ("trunc_normal", "tanh_normal", "normal"):
            raise ValueError(f"continuous must be 'trunc_normal', 'tanh_normal' or 'normal', got {kind!r}")
        if init_std < 0.0 or (init_std and kind != "tanh_normal"):
            raise ValueError(f"init_std must be 0, or positive with tanh_normal, got {init_std} with {kind}")
        self.size = self.noise = size
        self.params = 2 * size
        self.kind, self.min_std = kind, min_std
        self.raw_std = math.log(math.expm1(init_std)) if init_std else 0.0

    def _stats(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = x.float().chunk(2, -1)
        if self.kind == "trunc_normal":
            return torch.tanh(mean), 2 * torch.sigmoid(std / 2) + self.min_std
        if self.kind == "normal":
            return torch.tanh(mean), (1 - self.min_std) * torch.sigmoid(std + 2) + self.min_std
        return 5 * torch.tanh(mean / 5), F.softplus(std + self.raw_std) + self.min_std

    def encode(self, action: Tensor) -> Tensor:
        """The actions: continuous ones travel as they are."""
        return action.float()

    def decode(self, encoded: Tensor) -> Tensor:
        """The actions: continuous ones travel as they are, within [-1, 1]."""
        return encoded.clamp(-1.0, 1.0) if self.kind == "normal" else encoded

    def sample(self, x: Tensor, u: Tensor) -> Tensor:
        """Reparameterised sample [..., size], in (-1, 1) unless ``normal``."""
        mean, std = self._stats(x)
        if self.kind == "normal":
            return D.normal_sample(mean, std, u)
        f = D.trunc_normal_sample if self.kind == "trunc_normal" else D.tanh_normal_sample
        return f(mean, std, u)

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Raises TypeError: continuous actions have no masks."""
        raise TypeError("continuous actions have no masks")

    def uniform(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """Uniformly random action from noise. There are no masks of continuous actions."""
        return 2 * u - 1

    def uniform_log_prob(self, encoded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-densities [...] of actions [..., size] as `uniform` draws them: -log 2 for each entry."""
        return torch.full_like(encoded[..., 0], -self.size * math.log(2.0))

    def mode(self, x: Tensor) -> Tensor:
        """tanh of the mean parameter."""
        mean, _ = self._stats(x)
        if self.kind == "normal":
            return mean
        return D.trunc_normal_mode(mean) if self.kind == "trunc_normal" else D.tanh_normal_mode(mean)

    def log_prob(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Log-probabilities [...] of actions [..., size] under outputs [..., params]."""
        mean, std = self._stats(x)
        if self.kind == "normal":
            return D.normal_log_prob(encoded, mean, std).sum(-1)
        f = D.trunc_normal_log_prob if self.kind == "trunc_normal" else D.tanh_normal_log_prob
        return f(encoded, mean, std).sum(-1)

    def entropy(self, x: Tensor) -> Tensor:
        """Entropy [...] in nats of the action itself (tanh: after squashing, by quadrature). x: [..., params]."""
        mean, std = self._stats(x)
        if self.kind == "normal":
            return D.normal_entropy(std).sum(-1)
        f = D.trunc_normal_entropy if self.kind == "trunc_normal" else D.tanh_normal_entropy
        return f(mean, std).sum(-1)


Actions = DiscreteActions | ContinuousActions


def make_actions(
    space: spaces.Space,
    unimix: float = 0.0,
    continuous: ContinuousKind = "trunc_normal",
    min_std: float = 0.1,
    init_std: float = 0.0,
) -> Actions:
    """The action distribution that a space asks for. Raises ValueError for spaces that are not actions.

    unimix: of discrete ones. continuous, min_std, init_std: see `ContinuousActions`.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteActions([int(space.n)], True, unimix)
    if isinstance(space, spaces.MultiDiscrete):
        return DiscreteActions([int(n) for n in space.nvec], False, unimix)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return ContinuousActions(int(space.shape[0]), continuous, min_std, init_std)
    raise ValueError(f"no policy for action space {space!r}: expected Discrete, MultiDiscrete or a one-dimensional Box")
