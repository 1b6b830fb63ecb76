"""Encoders: any mixture of images, vectors and indices -> one embedding vector per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.nets.layers import MLP, ChannelNorm, activation, one_hot


@dataclass(frozen=True)
class EncoderConfig:
    """depth: channels of the first convolution (doubled at each stage). layers, units: the MLP for vectors."""

    depth: int = 48
    layers: int = 4
    units: int = 400
    act: str = "elu"
    norm: bool = False


def is_image(space: spaces.Space) -> bool:
    """Images are uint8 boxes [H, W, C]."""
    return isinstance(space, spaces.Box) and space.dtype == torch.empty(0, dtype=torch.uint8).numpy().dtype


def vector_size(space: spaces.Space) -> int:
    """Width of a non-image observation once `vector` has expanded it."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(torch.Size(space.shape or ()).numel())


def vector(space: spaces.Space, x: Tensor) -> Tensor:
    """Expand an observation to float32 [..., vector_size]: indices to one-hot, boxes flattened."""
    if isinstance(space, spaces.Discrete):
        return one_hot(x, int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return torch.cat([one_hot(x[..., i], int(n)) for i, n in enumerate(space.nvec)], -1)
    axes = len(space.shape or ())
    return x.float().flatten(-axes) if axes > 1 else x.float()


def pixels(image: Tensor) -> Tensor:
    """uint8 [..., H, W, C] in 0..255 -> float32 [..., C, H, W] in [-0.5, 0.5], channels last in memory.

    Source: Dreamer V1/V2 code, ``x / 255 - 0.5``.
    """
    return image.movedim(-1, -3).float().mul_(1 / 255).sub_(0.5)


def conv_sizes(size: int, stages: int = 4) -> list[int]:
    """Side lengths through kernel-4 stride-2 valid convolutions: 64 -> [64, 31, 14, 6, 2]; stops before side < 4."""
    sizes = [size]
    while len(sizes) <= stages and sizes[-1] >= 4:
        sizes.append((sizes[-1] - 4) // 2 + 1)
    return sizes


def conv_plan(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) before and after each stage; images of any size from 4x4, deeper for larger ones (96: 5)."""
    stages = 4 if min(height, width) < 96 else 5
    return list(zip(conv_sizes(height, stages), conv_sizes(width, stages), strict=False))


class ImageEncoder(nn.Module):
    """Kernel-4 stride-2 valid convolutions with depth, 2 depth, 4 depth, ... channels.

    uint8 [N, H, W, C] -> float [N, outputs]; 64x64 gives 2*2*8*depth = 1536 for depth 48.
    Source: Ha & Schmidhuber 2018, as used by PlaNet and Dreamer V1/V2. Raises ValueError for sides under 4.
    """

    def __init__(self, shape: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        height, width, channels = shape
        plan = conv_plan(height, width)
        if len(plan) < 2:
            raise ValueError(f"images need both sides >= 4, got {height}x{width}")
        depths = [channels] + [config.depth * 2**i for i in range(len(plan) - 1)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, 2) for i, o in pairwise(depths))
        self.norms = nn.ModuleList(ChannelNorm(o) if config.norm else nn.Identity() for o in depths[1:])
        self.act = activation(config.act)
        self.outputs = depths[-1] * plan[-1][0] * plan[-1][1]

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [N, H, W, C] -> [N, outputs]."""
        x = pixels(image)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.act(norm(conv(x)))
        return x.flatten(1)


class Encoder(nn.Module):
    """One CNN per image key, one MLP for all other keys together; their features are concatenated.

    Source: DreamerV2 code (image keys through the CNN, vector keys concatenated into a 4x400 MLP).
    """

    def __init__(self, observation: Mapping[str, spaces.Space], config: EncoderConfig) -> None:
        super().__init__()
        self.images = {key: space for key, space in observation.items() if is_image(space)}
        self.vectors = {key: space for key, space in observation.items() if not is_image(space)}
        self.cnns = nn.ModuleList(ImageEncoder(tuple(space.shape or ()), config) for space in self.images.values())
        self.outputs = sum(cnn.outputs for cnn in self.cnns if isinstance(cnn, ImageEncoder))
        self.mlp: MLP | None = None
        if self.vectors:
            inputs = sum(vector_size(space) for space in self.vectors.values())
            self.mlp = MLP(inputs, config.layers, config.units, config.act, config.norm)
            self.outputs += self.mlp.outputs

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """obs: key -> [*lead, ...] with any leading axes -> [*lead, outputs]."""
        features = []
        for (key, space), cnn in zip(self.images.items(), self.cnns, strict=True):
            image = obs[key]
            lead = image.shape[: -len(space.shape or ())]
            features.append(cnn(image.reshape(-1, *image.shape[len(lead) :])).view(*lead, -1))
        if self.mlp is not None:
            features.append(self.mlp(torch.cat([vector(space, obs[key]) for key, space in self.vectors.items()], -1)))
        return torch.cat(features, -1) if len(features) > 1 else features[0]
