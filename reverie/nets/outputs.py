"""Meanings of a head's numbers: how many there are, the loss towards a target, and what they predict.

A head makes numbers; an `Output` gives them their meaning, so that a reward can be a Gaussian's mean in one agent and a
distribution over bins in another without either agent saying how it is trained or read::

    features --> head --> x  --> loss(x, target)     what is minimised, one number per row
                             \\-> mean(x)             what is predicted, in the target's own units

| output | loss, per row | mean | where |
|---|---|---|---|
| `UnitNormal` | sum (target - x)^2 / 2 + n log(2 pi) / 2 | x | PlaNet, Dreamer V1, V2: images, rewards, values |
| `SquaredError` | sum (target - x)^2 | x | DreamerV3: images |
| `OneHots` | -sum_k target_k log softmax(x)_k, per index | softmax(x) | DreamerV3: indices |
| `SymlogMSE` | sum (symlog(target) - x)^2 | symexp(x) | DreamerV3: vectors |
| `Bernoulli` | -t log s(x) - (1 - t) log(1 - s(x)) | s(x) = sigmoid(x) | discounts, continuations |
| `TwoHot` | -sum_k two_hot(target)_k log softmax(x)_k | sum_k softmax(x)_k b_k | DreamerV3, TD-MPC2: rewards, values |

Outputs of action values, which also say how to bootstrap, are in `reverie.nets.values`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.ops.categorical import bernoulli_log_prob, bernoulli_mean, categorical_log_prob
from reverie.ops.continuous import unit_normal_nll
from reverie.ops.precision import full
from reverie.ops.softmax import softmax
from reverie.ops.transforms import symexp, symexp_bins, symlog, two_hot_cross_entropy, two_hot_mean


class Output(nn.Module, ABC):
    """The meaning of a head's numbers. A module only for its buffers: it has no parameters, and a state dict no key.

    Shapes: where `params` is 1, x has the target's shape; otherwise x has one axis more, of `params`, at its end.
    """

    params: int = 1
    """numbers per predicted quantity: what the width of a head's last layer is a multiple of"""

    @abstractmethod
    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss of every row, float32, at its least where `mean` of x is the target (or the targets' mean).

        x: numbers of the head. target: in its own units; it gets no gradient. A NaN in either is one in the loss.
        Raises ValueError if the shapes do not fit (a silent broadcast would train the wrong thing).
        """

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Prediction of x in the target's own units, of the target's shape."""


def check_shapes(x: Tensor, target: Tensor, params: int) -> None:
    """Raise ValueError unless x is [*target.shape, params], or target.shape where params is 1."""
    expected = target.shape if params == 1 else (*target.shape, params)
    if tuple(x.shape) != tuple(expected):
        raise ValueError(f"for targets {tuple(target.shape)} expected outputs {tuple(expected)}, got {tuple(x.shape)}")


def _check_dims(dims: int) -> None:
    if dims < 0:
        raise ValueError(f"dims, the number of axes that are summed, must be at least 0, got {dims}")


class UnitNormal(Output):
    """Mean of a Gaussian with variance 1: loss = sum (target - x)^2 / 2 + n log(2 pi) / 2, in nats.

    dims: number of last axes that make up one row and are summed; n is their size. constant: False drops the second
    term, which changes no gradient but the value that loss balancing depends on.
    Source: Hafner et al. 2021 (DreamerV2), equation 2.
    """

    def __init__(self, dims: int = 0, constant: bool = True) -> None:
        super().__init__()
        _check_dims(dims)
        self.dims, self.constant = dims, constant

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x, target [..., D_1 ... D_dims]."""
        return unit_normal_nll(target.detach(), x.float(), self.dims, self.constant)

    def mean(self, x: Tensor) -> Tensor:
        """x itself, float32."""
        return x.float()


class SquaredError(Output):
    """Squared error: loss = sum (target - x)^2, without the half and the constant of a Gaussian.

    dims: number of last axes that make up one row and are summed. Source: the code of DreamerV3.
    """

    def __init__(self, dims: int = 0) -> None:
        super().__init__()
        _check_dims(dims)
        self.dims = dims

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x, target [..., D_1 ... D_dims]."""
        check_shapes(x, target, 1)
        error = F.mse_loss(x.float(), full(target.detach()), reduction="none")
        return error.sum(tuple(range(-self.dims, 0))) if self.dims else error

    def mean(self, x: Tensor) -> Tensor:
        """x itself, float32."""
        return x.float()


class OneHots(Output):
    """Logits of one or several indices, as one-hots side by side: loss = -sum_k target_k log softmax(x)_k, in nats.

    sizes: of the indices. Targets are one-hots float [..., sum of sizes], and so is x.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [int(n) for n in sizes]

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x, target [..., sum of sizes]."""
        check_shapes(x, target, 1)
        parts = zip(x.split(self.sizes, -1), target.detach().split(self.sizes, -1), strict=True)
        return -torch.stack([categorical_log_prob(logits, one_hot) for logits, one_hot in parts]).sum(0)

    def mean(self, x: Tensor) -> Tensor:
        """Probabilities."""
        return torch.cat([softmax(part) for part in x.split(self.sizes, -1)], -1)


class SymlogMSE(Output):
    """Squared error on the symlog scale: loss = sum (symlog(target) - x)^2, without the half and the constant.

    dims: number of last axes that make up one row and are summed.
    Source: Hafner et al. 2023 (DreamerV3), "Robust predictions" (symlog loss); that nothing is halved, its code.
    """

    def __init__(self, dims: int = 0) -> None:
        super().__init__()
        _check_dims(dims)
        self.dims = dims

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x, target [..., D_1 ... D_dims]."""
        check_shapes(x, target, 1)
        error = F.mse_loss(x.float(), symlog(target.detach()), reduction="none")
        return error.sum(tuple(range(-self.dims, 0))) if self.dims else error

    def mean(self, x: Tensor) -> Tensor:
        """symexp(x), float32: for targets that are random the mean of their symlog, which is not their mean."""
        return symexp(x.float())


class Bernoulli(Output):
    """Logit of a probability: loss = -t log s(x) - (1 - t) log(1 - s(x)) with s the sigmoid, in nats.

    Targets are in [0, 1] and may be soft, such as gamma (1 - is_terminal): the loss of the best x is then the target's
    entropy and not 0.
    Source: Hafner et al. 2021 (DreamerV2), equation 2, discount predictor.
    """

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] of x, target [...]."""
        check_shapes(x, target, 1)
        return -bernoulli_log_prob(x, target.detach())

    def mean(self, x: Tensor) -> Tensor:
        """Probability of 1."""
        return bernoulli_mean(x)


class TwoHot(Output):
    """Logits of a distribution over fixed bins, trained by cross-entropy to the two bins around the target.

    Two kinds, for targets whose size is unknown::

        TwoHot.uniform   bins equally spaced in symlog space:  target two_hot(symlog(y)),  mean symexp(sum_k p_k b_k)
        TwoHot.spread    bins symexp(...) in the raw space:     target two_hot(y),          mean sum_k p_k b_k

    They differ where the distribution is wide: the first predicts the mean of symlog(y), the second the mean of y.
    Logits that are all equal predict exactly 0 in both. Targets beyond the outermost bins count as these.

    bins: [K], increasing, K >= 2. squashed: whether they lie in symlog space. Raises ValueError otherwise.
    Source: Hafner et al. 2023 (DreamerV3), "Critic learning": uniform in the code of 2023, spread in the code since.
    """

    bins: Tensor

    def __init__(self, bins: Tensor, squashed: bool) -> None:
        super().__init__()
        # As a negation, so that a NaN among the bins is refused as well.
        if bins.dim() != 1 or len(bins) < 2 or not bool((bins.diff() > 0).all()):
            raise ValueError(f"bins must be at least 2 increasing numbers, got {bins.tolist()}")
        self.register_buffer("bins", bins.float(), persistent=False)
        self.squashed, self.params = squashed, len(bins)

    @classmethod
    def uniform(cls, count: int = 255, limit: float = 20.0) -> TwoHot:
        """Bins, an odd number, from -limit to limit in symlog space. TD-MPC2 has 101 up to 10."""
        if count < 3 or count % 2 == 0:
            raise ValueError(f"count must be odd and at least 3, got {count}")
        half = torch.linspace(0.0, limit, count // 2 + 1, device="cpu")  # looked at here, wherever the head is made
        return cls(torch.cat([-half[1:].flip(0), half]), squashed=True)

    @classmethod
    def spread(cls, count: int = 255, limit: float = 20.0) -> TwoHot:
        """Bins, an odd number, from symexp(-limit) to symexp(limit), denser around 0."""
        return cls(symexp_bins(count, limit, "cpu"), squashed=False)

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Loss [...] in nats of x [..., K], target [...]."""
        check_shapes(x, target, self.params)
        target = full(target.detach())
        return two_hot_cross_entropy(x, symlog(target) if self.squashed else target, self.bins)

    def mean(self, x: Tensor) -> Tensor:
        """Mean [...] of logits [..., K], see the class."""
        mean = two_hot_mean(softmax(x), self.bins)
        return symexp(mean) if self.squashed else mean
