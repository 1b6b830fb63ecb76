"""Pictures as DreamerV3 reads and draws them since 2024: convolutions that keep the size, pooling, nearest neighbours.

::

    encoder   n times  conv 5x5 -> maximum of 2x2 pixels -> norm -> act         channels depth (2, 3, 4, 4)
    decoder   blocks(h) + MLP(z) -> norm -> act;   n times  every pixel 2x2 -> conv 5x5 (-> norm -> act);   sigmoid

64x64 pixels become 4x4 in four stages, and 96x96 6x6.
Source: the released code of DreamerV3. Differs in: other sizes are padded and have as many stages as leave 4 pixels,
four at most (there always four).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.encoders import EncoderConfig, ImageCode, halvings, padded
from reverie.nets.layers import MLP, BlockLinear, channel_norm_of

MULTIPLES = (2, 3, 4, 4)
KERNEL = 5


def channels_of(depth: int, height: int, width: int) -> list[int]:
    """Channels after each stage; the last has 4 depth, however few there are."""
    stages = min(halvings(height, width), len(MULTIPLES))
    return [depth * m for m in (*MULTIPLES[: stages - 1], MULTIPLES[-1])]


class PooledEncoder(ImageCode):
    """Pictures float [N, C, H, W] -> features [N, outputs]. Raises ValueError for sides under 4."""

    def __init__(self, shape: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        height, width, channels = shape
        if min(height, width) < 4:
            raise ValueError(f"images need both sides >= 4, got {height}x{width}")
        depths = channels_of(config.depth, height, width)
        stages = len(depths)
        self.pad = (0, padded(width, stages) - width, 0, padded(height, stages) - height)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, KERNEL, padding="same") for i, o in pairwise([channels, *depths]))
        self.norms = nn.ModuleList(channel_norm_of("rms", o) for o in depths)
        self.outputs = depths[-1] * (padded(height, stages) >> stages) * (padded(width, stages) >> stages)

    def forward(self, x: Tensor) -> Tensor:
        """Features of pictures."""
        if any(self.pad):
            x = F.pad(x, self.pad)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.silu(norm(F.max_pool2d(conv(x), 2)))
        return x.flatten(1)


class DoubledConv(nn.Conv2d):
    """Every pixel 2x2, then a convolution 5x5: [N, C, H, W] -> [N, O, 2 H, 2 W], without making the doubled picture.

    ::

        doubled   ... a a | b b | c c ...       five taps k0 .. k4 around an even pixel: (k0+k1) a + (k2+k3) b + k4 c
        each way    even^       ^odd            around an odd one:                       k0 a + (k1+k2) b + (k3+k4) c

    so that the four pixels that one becomes are four outputs of a convolution 3x3 over the picture as it is: 9 products
    in place of 25, of a quarter of the memory. `weight` and `bias` are those of the convolution 5x5.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """The doubled picture, convolved."""
        weight = _taps(_taps(self.weight, 2, 1), 4, 2)  # [O, 2, 2, C, 3, 3]
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(x, weight.flatten(0, 2), bias, padding=1), 2)


def _taps(weight: Tensor, way: int, phase: int) -> Tensor:
    """Three taps for even and odd pixels, along a new axis `phase`, of the five along axis `way` (before it came)."""
    a, b, c, d, e = weight.unbind(way)
    even, odd = torch.stack([a + b, c + d, e], way), torch.stack([a, b + c, d + e], way)
    return torch.stack([even, odd], phase)


class PooledDecoder(nn.Module):
    """Features [h; z], [N, deter + stoch] -> pictures [N, C, H, W] in [-0.5, 0.5].

    Each of the blocks of h draws a share of the channels of the smallest picture, z all of them.
    """

    def __init__(self, deter: int, stoch: int, shape: tuple[int, ...], depth: int, units: int, blocks: int) -> None:
        super().__init__()
        height, width, channels = self.shape = shape
        depths = channels_of(depth, height, width)
        stages = len(depths)
        if depths[-1] % blocks:
            raise ValueError(f"4 depth must be a multiple of the {blocks} blocks, got a depth of {depth}")
        self.split = (deter, stoch)
        self.base = (depths[-1], padded(height, stages) >> stages, padded(width, stages) >> stages)
        size = self.base[0] * self.base[1] * self.base[2]
        self.of_deter = BlockLinear(deter, size, blocks)
        self.of_stoch = nn.Sequential(MLP(stoch, 1, 2 * units, "silu", "rms"), nn.Linear(2 * units, size))
        depths = [*reversed(depths), channels]
        # The smallest picture's own norm is the first.
        self.norms = nn.ModuleList(channel_norm_of("rms", o) for o in depths[:-1])
        self.convs = nn.ModuleList(DoubledConv(i, o) for i, o in pairwise(depths))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures of features."""
        deter, stoch = x.split(self.split, -1)
        x = (self.of_deter(deter) + self.of_stoch(stoch)).view(-1, *self.base)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.silu(norm(x)))
        return torch.sigmoid(x[..., : self.shape[0], : self.shape[1]].float()) - 0.5
