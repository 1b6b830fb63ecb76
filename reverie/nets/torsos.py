"""Torsos: stacked images through DQN's or IMPALA's convolutions, everything else through an MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.encoders import LEAST_STD, is_image, vector, vector_size
from reverie.nets.layers import MLP, Act
from reverie.ops.stats import EmaNormaliser
from reverie.values import Count, Number

SMALLEST = 36
"""Side of the smallest image that DQN's convolutions fit."""

LEAST_ENTRY_STD = 0.01
"""of a standardised entry of a vector; entries that never change, such as masked ones, become 0"""

MOMENTUM = 0.999
"""of the running statistics of `TorsoConfig.standardise`, per update"""


@dataclass(frozen=True)
class TorsoConfig:
    """cnn: convolutions, ``nature`` as DQN's or ``residual`` as IMPALA's deep network.

    channels: of the convolutions (nature: two or three) or of the sections (residual).
    layers, units: of the MLP for what is no image. act: activation of the MLP.
    dense: units of a fully connected layer after all of them (0: none).
    standardise: pixels and entries of vectors come minus their running mean over training batches, divided by their
        running deviation, each by its own (pixels: at least `LEAST_STD` of white). Small things that move before a
        still background are then most of what is seen, and small differences between rows of a vector not lost beside
        1. Not in the papers.
    """

    channels: tuple[int, ...] = (32, 64, 64)
    layers: Number = 2
    units: Count = 128
    act: Act = "relu"
    dense: Number = 0
    standardise: bool = False
    cnn: Literal["nature", "residual"] = "nature"

    def __post_init__(self) -> None:
        if self.cnn == "nature" and len(self.channels) not in (2, 3):
            raise ValueError(f"the cnn 'nature' has two or three convolutions, got channels {list(self.channels)}")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be positive, got {list(self.channels)}")


class NatureCNN(nn.Module):
    """DQN's three convolutions with ReLU, or the first two of them, as in A3C: [N, H, W, C] -> [N, outputs].

    ::

        sides >= 36    8x8 stride 4, 4x4 stride 2, 3x3 stride 1, no padding: 84 -> 20 -> 9 -> 7, 7*7*64 = 3136 features
        smaller        3x3 stride 2, 3x3 stride 2, 3x3 stride 1, padded: 32 -> 16 -> 8 -> 8

    A side that the strides do not fit is padded at the bottom or right with black pixels, to the next side s with
    s mod 8 = 4, so that every pixel is seen. Pixels are divided by 255 within the first kernel.
    Features come row by row, then column by column, channels last.
    Source: Mnih et al. 2015 (DQN), Methods, "Model architecture"; Mnih et al. 2016 (A3C), section 8: 16 and 32 channels
    in two. The form for smaller sides and the padding are ours.
    """

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, ...]) -> None:
        super().__init__()
        height, width, colours = shape
        nature = min(height, width) >= SMALLEST
        self.pad = (-(width - 4) % 8, -(height - 4) % 8) if nature else (0, 0)
        three = ((8, 4, 0), (4, 2, 0), (3, 1, 0)) if nature else ((3, 2, 1), (3, 2, 1), (3, 1, 1))
        kernels = three[: len(channels)]
        sizes = pairwise((colours, *channels))
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, kernel, stride, padding=padding)
            for (i, o), (kernel, stride, padding) in zip(sizes, kernels, strict=True)
        )
        sides = [height + self.pad[1], width + self.pad[0]]
        for kernel, stride, padding in kernels:
            sides = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
        self.outputs = channels[-1] * sides[0] * sides[1]

    def forward(self, image: Tensor, scale: float = 1 / 255) -> Tensor:
        """Features [N, outputs] of bytes or floats [N, H, W, C], which count as multiplied by `scale`."""
        first = self.convs[0]
        assert isinstance(first, nn.Conv2d)
        x = floats(image).movedim(-1, -3)
        if any(self.pad):
            x = F.pad(x, (0, self.pad[0], 0, self.pad[1]))
        x = F.relu_(F.conv2d(x, first.weight * scale, first.bias, first.stride, first.padding))
        for conv in self.convs[1:]:
            x = F.relu_(conv(x))
        return x.movedim(-3, -1).flatten(1)  # channels last, as they lie in memory: no copy, and none of the gradient


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3, as many channels out as in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x [N, C, H, W]."""
        return x + self.second(F.relu_(self.first(F.relu(x))))


class ResidualCNN(nn.Module):
    """IMPALA's deep network, sections of a convolution, a pooling, two residual blocks: [N, H, W, C] -> [N, outputs].

    ::

        section    3x3 convolution   3x3 max-pooling, stride 2   Residual   Residual          16, 32, 32 channels
        84x84  ->  42x42  ->  21x21  ->  11x11, ReLU             11*11*32 = 3872 features, 15 convolutions

    Pooling pads as TensorFlow's SAME does: an even side at its end, an odd one at both. Pixels are divided by 255
    within the first kernel. Features come row by row, then column by column, channels last.
    Source: Espeholt et al. 2018 (IMPALA), figure 3 right, and its released code.
    """

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, ...]) -> None:
        super().__init__()
        height, width, colours = shape
        sizes = list(pairwise((colours, *channels)))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in sizes)
        self.blocks = nn.ModuleList(nn.Sequential(Residual(o), Residual(o)) for _, o in sizes)
        for _ in channels:
            height, width = -(-height // 2), -(-width // 2)
        self.outputs = channels[-1] * height * width

    def forward(self, image: Tensor, scale: float = 1 / 255) -> Tensor:
        """Features [N, outputs] of bytes or floats [N, H, W, C], which count as multiplied by `scale`."""
        x = floats(image).movedim(-1, -3)
        for number, (conv, blocks) in enumerate(zip(self.convs, self.blocks, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            weight = conv.weight if number else conv.weight * scale
            x = F.conv2d(x, weight, conv.bias, padding=1)
            x = F.max_pool2d(x, 3, 2, (x.shape[-2] % 2, x.shape[-1] % 2), ceil_mode=True)
            x = blocks(x)
        return F.relu_(x).movedim(-3, -1).flatten(1)


CNNS: dict[str, Callable[[tuple[int, int, int], tuple[int, ...]], NatureCNN | ResidualCNN]] = {
    "nature": NatureCNN,
    "residual": ResidualCNN,
}


def floats(image: Tensor) -> Tensor:
    """An image as convolutions read it: in float32, or at once in autocast's dtype (bytes are exact in bfloat16)."""
    kind = image.device.type
    return image.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)


def standardised(image: Tensor, statistics: EmaNormaliser) -> Tensor:
    """(x / 255 - mean) / std of stacked frames, pixel by pixel: uint8 [..., H, W, k C] -> `floats`, same shape.

    statistics: of one frame, [H, W, C], of values in [0, 1]. In bfloat16 a mean is off by half a byte at most, which
    is 0.02 of `LEAST_STD`.
    """
    x, frames = floats(image), image.shape[-1] // statistics.mean.shape[-1]
    mean, scale = statistics.mean * 255, 1 / (255 * statistics.std())
    mean, scale = (one.repeat(1, 1, frames).to(x.dtype) for one in (mean, scale))
    return x.sub_(mean).mul_(scale)


class Torso(nn.Module):
    """One CNN per image key, one MLP for all other keys together, their features concatenated; then `dense` units.

    observation: key -> space of the unstacked observation. stack: frames that images come as, channels concatenated.
    Raises ValueError if there is nothing to observe.
    """

    def __init__(self, observation: Mapping[str, spaces.Space], config: TorsoConfig, stack: int = 1) -> None:
        super().__init__()
        self.images = {key: space for key, space in observation.items() if is_image(space)}
        self.vectors = {key: space for key, space in observation.items() if not is_image(space)}
        if not observation:
            raise ValueError("an observation needs at least one key")
        self.cnns = nn.ModuleList()
        self.outputs = 0
        for space in self.images.values():
            height, width, colours = space.shape or ()
            cnn = CNNS[config.cnn]((height, width, colours * stack), config.channels)
            self.cnns.append(cnn)
            self.outputs += cnn.outputs
        self.statistics = nn.ModuleList()
        if config.standardise:
            frames = [EmaNormaliser(MOMENTUM, tuple(space.shape or ()), LEAST_STD) for space in self.images.values()]
            self.statistics.extend(frames)
        self.mlp: MLP | None = None
        if self.vectors:
            inputs = sum(vector_size(space) for space in self.vectors.values())
            if config.standardise:
                self.statistics.append(EmaNormaliser(MOMENTUM, (inputs,), LEAST_ENTRY_STD))
            self.mlp = MLP(inputs, config.layers, config.units, config.act)
            self.outputs += self.mlp.outputs
        self.dense: nn.Linear | None = None
        if config.dense:
            self.dense = nn.Linear(self.outputs, config.dense)
            self.outputs = config.dense

    def prepare(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Observations with images as the convolutions read them, `floats` that are standardised if asked; same shapes.

        No parameter has a say, so that what is prepared once serves every network; it passes here unchanged.
        """
        prepared = dict(obs)
        for number, key in enumerate(self.images):
            if obs[key].is_floating_point():
                continue
            statistics = self.statistics[number] if self.statistics else None
            assert statistics is None or isinstance(statistics, EmaNormaliser)
            prepared[key] = floats(obs[key]) if statistics is None else standardised(obs[key], statistics)
        return prepared

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Features [*lead, outputs] of observations as they travel or prepared, images stacked, key -> [*lead, ...]."""
        obs, features = self.prepare(obs), []
        scale = 1.0 if self.statistics else 1 / 255
        for key, cnn in zip(self.images, self.cnns, strict=True):
            image = obs[key]
            features.append(cnn(image.flatten(0, -4), scale).unflatten(0, image.shape[:-3]))
        if self.mlp is not None:
            entries = self._entries(obs)
            features.append(self.mlp(self.statistics[-1](entries) if self.statistics else entries))
        x = torch.cat(features, -1) if len(features) > 1 else features[0]
        return x if self.dense is None else F.relu(self.dense(x))

    def adapt(self, obs: Mapping[str, Tensor]) -> None:
        """Take observations [*lead, ...], images not stacked, into the statistics; nothing without ``standardise``."""
        if not self.statistics:
            return
        inputs = [obs[key].float() * (1 / 255) for key in self.images]
        for statistics, x in zip(self.statistics, inputs + ([self._entries(obs)] if self.vectors else []), strict=True):
            assert isinstance(statistics, EmaNormaliser)
            statistics.update(x)

    def _entries(self, obs: Mapping[str, Tensor]) -> Tensor:
        """All that is no image, [*lead, entries]."""
        return torch.cat([vector(space, obs[key]) for key, space in self.vectors.items()], -1)
