"""Running statistics that normalise a stream of batches, as modules whose buffers are saved with a checkpoint.

`update(x)` takes a batch in, `forward(x)` applies what has been seen so far; neither does the other's work. Updates are
in place, without gradient and without reading a value on the host. `momentum` is the share of the old value that an
update keeps: new = momentum * old + (1 - momentum) * batch. Statistics are float32. Where processes share a batch, all
of them take the whole batch in (`reverie.ops.world`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reverie.ops import world


def _check_momentum(momentum: float) -> None:
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must be in [0, 1], got {momentum}")


class EmaNormaliser(nn.Module):
    """(x - mean) / max(std, floor) with exponentially weighted mean and standard deviation, without start-up bias.

    The weights of all batches seen add up to 1 from the first batch on, and the variance is that of the whole weighted
    stream (within batches and between them), by a recursion that subtracts no squares of means.

    momentum: in [0, 1). shape: axes kept, statistics are taken over all axes before them. floor: least std, positive.
    Before the first update, mean is 0 and std 1. Raises ValueError for a momentum or floor out of range.
    Source: West 1979 (weighted incremental variance), with the bias correction of Kingma & Ba 2015, section 3.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor

    def __init__(self, momentum: float = 0.99, shape: tuple[int, ...] = (), floor: float = 1e-8) -> None:
        super().__init__()
        _check_momentum(momentum)
        if momentum == 1.0 or floor <= 0.0:
            raise ValueError(f"momentum must be below 1 and floor positive, got {momentum} and {floor}")
        self.momentum, self.shape, self.floor = momentum, shape, floor
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take a batch in. x: [..., *shape]."""
        rows = x.float().reshape(-1, *self.shape)
        self.weight.mul_(self.momentum).add_(1.0 - self.momentum)
        rate = (1.0 - self.momentum) / self.weight
        mean, within = world.moments(rows)
        change = mean - self.mean
        self.variance.copy_((1.0 - rate) * (self.variance + rate * change.square()) + rate * within)
        self.mean.add_(rate * change)

    def std(self) -> Tensor:
        """Standard deviation, at least the floor; float32 [*shape]."""
        return self.variance.sqrt().clamp(min=self.floor)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., *shape] normalised, float32."""
        return (x.float() - self.mean) / self.std()


class PercentileScale(nn.Module):
    """x / max(high - low, floor), where low and high follow two percentiles of the batches.

    Both start at 0 and are not corrected for it, so the scale starts at its floor. The floor keeps small returns small.
    Divide advantages by it; an offset would cancel there.

    momentum: in [0, 1]. low, high: quantile levels in [0, 1]. floor: least scale, positive.
    Raises ValueError for values out of range.
    Source: Hafner et al. 2023 (DreamerV3), "Actor learning": levels 0.05 and 0.95, momentum 0.99, floor 1.
    """

    low: Tensor
    high: Tensor

    def __init__(self, momentum: float = 0.99, low: float = 0.05, high: float = 0.95, floor: float = 1.0) -> None:
        super().__init__()
        _check_momentum(momentum)
        if not 0.0 <= low < high <= 1.0 or floor <= 0.0:
            raise ValueError(f"expected 0 <= low < high <= 1 and a positive floor, got {low}, {high} and {floor}")
        self.momentum, self.levels, self.floor = momentum, (low, high), floor
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take a batch in. x: any shape, not empty."""
        ordered = world.gathered(x.detach().float()).sort().values
        for buffer, level in ((self.low, self.levels[0]), (self.high, self.levels[1])):
            buffer.lerp_(_quantile(ordered, level), 1.0 - self.momentum)

    def scale(self) -> Tensor:
        """max(high - low, floor), a float32 scalar."""
        return (self.high - self.low).clamp(min=self.floor)

    def forward(self, x: Tensor) -> Tensor:
        """x divided by the scale, float32."""
        return x.float() / self.scale()


class RunningScale(nn.Module):
    """x / S, where S follows the range of two percentiles of the batches, each range at least the floor.

        S <- (1 - rate) S + rate max(p_high - p_low, floor),      S = floor at first

    Unlike `PercentileScale` it begins at the floor and averages ranges that are each at least the floor.

    rate: share of the new range, in [0, 1]. low, high: quantile levels in [0, 1]. floor: least range, positive.
    Raises ValueError for values out of range.
    Source: Hansen et al. 2024 (TD-MPC2), appendix on the policy, and its code, common/scale.py: levels 0.05 and 0.95,
    rate 0.01, floor 1.
    """

    value: Tensor

    def __init__(self, rate: float = 0.01, low: float = 0.05, high: float = 0.95, floor: float = 1.0) -> None:
        super().__init__()
        if not 0.0 <= rate <= 1.0 or not 0.0 <= low < high <= 1.0 or floor <= 0.0:
            raise ValueError(
                "expected rate in [0, 1], 0 <= low < high <= 1 and a positive floor, "
                f"got {rate}, {low}, {high} and {floor}"
            )
        self.rate, self.levels, self.floor = rate, (low, high), floor
        self.register_buffer("value", torch.tensor(float(floor)))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take a batch in. x: any shape, not empty."""
        ordered = world.gathered(x.detach().float()).sort().values
        low, high = (_quantile(ordered, level) for level in self.levels)
        self.value.lerp_((high - low).clamp(min=self.floor), self.rate)

    def forward(self, x: Tensor) -> Tensor:
        """x divided by S, float32; gradients reach x."""
        return x.float() / self.value


def _quantile(ordered: Tensor, level: float) -> Tensor:
    """Quantile of sorted values [n], linear between neighbours. One sort serves several levels."""
    position = level * (ordered.shape[0] - 1)
    below = math.floor(position)
    above = min(below + 1, ordered.shape[0] - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)


class StreamNorm(nn.Module):
    """scale x / (magnitude + eps), where magnitude follows the mean of |x| and starts at 1.

    With momentum 1 and scale 1 it is the identity, DreamerV2's setting for rewards.

    momentum: in [0, 1]. Raises ValueError if it is not.
    Source: Hafner et al. 2021 (DreamerV2), released implementation, reward normalisation.
    """

    magnitude: Tensor

    def __init__(self, momentum: float = 1.0, scale: float = 1.0, eps: float = 1e-8) -> None:
        super().__init__()
        _check_momentum(momentum)
        self.momentum, self.scale, self.eps = momentum, scale, eps
        self.register_buffer("magnitude", torch.ones(()))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take a batch in. x: any shape, not empty."""
        self.magnitude.mul_(self.momentum).add_((1.0 - self.momentum) * world.average(x.float().abs().mean()))

    def forward(self, x: Tensor) -> Tensor:
        """x normalised, float32; gradients reach x."""
        return self.scale * x.float() / (self.magnitude + self.eps)
