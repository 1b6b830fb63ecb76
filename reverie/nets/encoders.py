"""Encoders: any mixture of images, vectors and indices -> one embedding vector per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.layers import MLP, Act, Norm, activation, channel_norm_of, one_hot
from reverie.ops.stats import EmaNormaliser
from reverie.ops.transforms import symlog
from reverie.values import Count, Number

LEAST_STD = 0.1
"""of a standardised pixel, of a range of 1: what hardly ever changes is not blown up"""


@dataclass(frozen=True)
class EncoderConfig:
    """depth: channels of the first convolution (doubled at each stage). layers, units: of the MLP for vectors.
    act: activation. norm: what follows each layer, see `reverie.nets.layers.Norm`.

    standardise: the CNN reads images minus their running mean over training batches, divided by their running
    deviation, pixel by pixel (an encoder's setting; decoders ignore it). Small things that move before a still
    background are then most of what it sees, not a hundredth. Not in the papers.
    convolutions: ``valid`` as in `ImageEncoder`; ``same`` pads images of 64x64 as all others (DreamerV3 of 2023).
    symlog: the MLP reads the symlog of vectors (an encoder's).
    bits: of each shade of images that are kept (an encoder's); with fewer than 8, noise of one shade is added.
    """

    depth: Count = 48
    layers: Number = 4
    units: Count = 400
    act: Act = "elu"
    norm: Norm = False
    standardise: bool = False
    convolutions: Literal["valid", "same"] = "valid"
    symlog: bool = False
    bits: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits of an image must be from 1 to 8, got {self.bits}")


def is_image(space: spaces.Space) -> bool:
    """Whether a space is an image: a uint8 box [H, W, C]."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8


def vector_size(space: spaces.Space) -> int:
    """Width of a non-image observation once `vector` has expanded it."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(torch.Size(space.shape or ()).numel())


def vector(space: spaces.Space, x: Tensor) -> Tensor:
    """Observation expanded to float32 [..., vector_size]: indices to one-hot, boxes flattened."""
    if isinstance(space, spaces.Discrete):
        return one_hot(x, int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return torch.cat([one_hot(x[..., i], int(n)) for i, n in enumerate(space.nvec)], -1)
    axes = len(space.shape or ())
    return x.float().flatten(-axes) if axes > 1 else x.float()


def pixels(image: Tensor) -> Tensor:
    """Pixels float32 [..., C, H, W] in [-0.5, 0.5] of uint8 [..., H, W, C], channels last in memory.

    Source: Dreamer V1/V2 code, ``x / 255 - 0.5``.
    """
    return image.movedim(-1, -3).float().mul_(1 / 255).sub_(0.5)


def quantised(image: Tensor, bits: int) -> Tensor:
    """Pixels as `pixels` has them, of which the first `bits` bits are kept: the middles of 2^bits shades.

    x = (floor(p / 2^(8 - bits)) + 1/2) / 2^bits - 1/2. Source: PlaNet code, preprocess, before its noise.
    """
    return image.movedim(-1, -3).div(2 ** (8 - bits), rounding_mode="floor").float().add_(0.5).div_(2**bits).sub_(0.5)


def image(x: Tensor) -> Tensor:
    """Inverse of `pixels`: float [..., C, H, W] -> uint8 [..., H, W, C], the nearest shade."""
    return (x + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).movedim(-3, -1)


def observation(space: spaces.Space, x: Tensor) -> Tensor:
    """Inverse of `vector`: the likeliest indices (Discrete, MultiDiscrete), a Box's numbers, cut off at its bounds."""
    if isinstance(space, spaces.Discrete):
        return x.argmax(-1)
    if isinstance(space, spaces.MultiDiscrete):
        return torch.stack([part.argmax(-1) for part in x.split(space.nvec.tolist(), -1)], -1)
    if not isinstance(space, spaces.Box):
        raise ValueError(f"observations of {space!r} cannot be told: expected Discrete, MultiDiscrete or Box")
    low, high = (torch.from_numpy(bound.astype("float32")).to(x.device) for bound in (space.low, space.high))
    return x.float().reshape(*x.shape[:-1], *space.shape).clamp(low, high)


PAPER = (64, 64)
"""Side lengths for which the papers' own convolutions are used."""


def halvings(height: int, width: int) -> int:
    """Stages for images of another size than the papers': as many as leave the shorter side at 4 pixels or more."""
    return min(max(int(math.log2(min(height, width) / 4)), 1), 5)


def padded(side: int, stages: int) -> int:
    """The side rounded up to a multiple of 2**stages, so that no stage drops a row of pixels."""
    return -(-side // 2**stages) * 2**stages


class ImageCode(nn.Module):
    """Network from `pixels` [N, C, H, W] to features [N, outputs]."""

    outputs: int


class ImageEncoder(ImageCode):
    """Kernel-4 stride-2 convolutions with depth, 2 depth, 4 depth, ... channels: `pixels` [N, C, H, W] -> [N, outputs].

    64x64: four valid convolutions, 31, 14, 6, 2 pixels: 2*2*8*depth = 1536 features for depth 48.
    Other sizes: padded at the bottom and right to a multiple of 2**stages, then halved exactly by each stage, down to
    4 to 7 pixels of the shorter side. (Valid convolutions would never see the last pixels of most sizes.)
    Source: Ha & Schmidhuber 2018, as used by PlaNet and Dreamer V1/V2, for 64x64; the rest is ours.
    Raises ValueError for sides under 4.
    """

    def __init__(self, shape: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        height, width, channels = shape
        if min(height, width) < 4:
            raise ValueError(f"images need both sides >= 4, got {height}x{width}")
        paper = (height, width) == PAPER and config.convolutions == "valid"
        stages = 4 if paper else halvings(height, width)
        self.pad = (0, 0) if paper else (padded(width, stages) - width, padded(height, stages) - height)
        depths = [channels] + [config.depth * 2**i for i in range(stages)]
        biased = config.norm != "layer"
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2, padding=0 if paper else 1, bias=biased) for i, o in pairwise(depths)
        )
        self.norms = nn.ModuleList(channel_norm_of(config.norm, o) for o in depths[1:])
        self.act = activation(config.act, in_place=not config.norm)
        pixels_left = 4 if paper else padded(height, stages) * padded(width, stages) // 4**stages
        self.outputs = depths[-1] * pixels_left

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, outputs] of float [N, C, H, W] in [-0.5, 0.5]."""
        if any(self.pad):
            x = F.pad(x, (0, self.pad[0], 0, self.pad[1]))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.act(norm(conv(x)))
        return x.flatten(1)


class Encoder(nn.Module):
    """One CNN per image key, one MLP for all other keys together; their features are concatenated.

    cnn: the kind of CNN.

    Source: DreamerV2 code (image keys through the CNN, vector keys concatenated into a 4x400 MLP).
    """

    def __init__(
        self,
        observation: Mapping[str, spaces.Space],
        config: EncoderConfig,
        cnn: Callable[[tuple[int, ...], EncoderConfig], ImageCode] = ImageEncoder,
    ) -> None:
        super().__init__()
        self.symlog = config.symlog
        self.images = {key: space for key, space in observation.items() if is_image(space)}
        self.vectors = {key: space for key, space in observation.items() if not is_image(space)}
        cnns = [cnn(tuple(space.shape or ()), config) for space in self.images.values()]
        self.cnns = nn.ModuleList(cnns)
        self.outputs = sum(each.outputs for each in cnns)
        shapes = [torch.Size(space.shape or ()) for space in self.images.values()]
        self.bits = config.bits
        self.noise = sum(shape.numel() for shape in shapes) if self.bits < 8 else 0
        """uniform numbers per row that `dequantise` takes"""
        self.statistics = nn.ModuleList(
            EmaNormaliser(0.999, (channels, height, width), LEAST_STD)
            for height, width, channels in (shapes if config.standardise else [])
        )
        self.mlp: MLP | None = None
        if self.vectors:
            inputs = sum(vector_size(space) for space in self.vectors.values())
            self.mlp = MLP(inputs, config.layers, config.units, config.act, config.norm)
            self.outputs += self.mlp.outputs

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Features [*lead, outputs] of observations as they travel, key -> [*lead, ...] with any leading axes."""
        return self.encode(self.prepare(obs))

    def prepare(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Observations as floats: what the networks read and what a decoder's means are compared with."""
        prepared = {key: pixels(obs[key]) if self.bits == 8 else quantised(obs[key], self.bits) for key in self.images}
        return prepared | {key: vector(space, obs[key]) for key, space in self.vectors.items()}

    def dequantise(self, prepared: Mapping[str, Tensor], u: Tensor) -> dict[str, Tensor]:
        """Prepared observations, each pixel of quantised images moved within its shade: x + (u - 1/2) / 2^bits.

        u: uniform [*lead, noise]. Source: PlaNet code, preprocess.
        """
        if not self.noise:
            return dict(prepared)
        moved, start = dict(prepared), 0
        for key in self.images:
            size = prepared[key].shape[-3:].numel()
            own = u[..., start : start + size].view(prepared[key].shape)
            moved[key], start = prepared[key] + (own - 0.5) / 2**self.bits, start + size
        return moved

    def restore(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `prepare`, of any of the keys: prepared observations as they travel, key -> [*lead, ...]."""
        spaces_ = {**self.images, **self.vectors}
        return {key: image(x) if key in self.images else observation(spaces_[key], x) for key, x in prepared.items()}

    def squashed(self, key: str, x: Tensor) -> Tensor:
        """A prepared vector as the MLP reads it; one-hots of indices stay what they are."""
        return symlog(x) if self.symlog and isinstance(self.vectors[key], spaces.Box) else x

    def adapt(self, prepared: Mapping[str, Tensor]) -> None:
        """Take a training batch into the running statistics of ``standardise``; nothing without it."""
        for key, statistics in zip(self.images, self.statistics, strict=False):
            if isinstance(statistics, EmaNormaliser):
                statistics.update(prepared[key])

    def encode(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """Features [*lead, outputs] of prepared observations [*lead, ...]."""
        features = []
        for i, (key, cnn) in enumerate(zip(self.images, self.cnns, strict=True)):
            image = prepared[key]
            if self.statistics:
                image = self.statistics[i](image)
            features.append(cnn(image.flatten(0, -4)).unflatten(0, image.shape[:-3]))
        if self.mlp is not None:
            features.append(self.mlp(torch.cat([self.squashed(key, prepared[key]) for key in self.vectors], -1)))
        return torch.cat(features, -1) if len(features) > 1 else features[0]
