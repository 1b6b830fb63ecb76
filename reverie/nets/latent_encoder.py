"""Encoders of TD-MPC and TD-MPC2: vectors through a few layers, or one image, shifted at random, through convolutions.

::

                     TD-MPC                                          TD-MPC2
    vectors          layer -> ELU -> layer                           normed layers -> normed layer with SimNorm
    image            x / 255                                         x / 255 - 1/2
    convolutions     7/2, 5/2, 3/2, 3/2, ReLU after each             7/2, 5/2, 3/2, 3/1, ReLU between
    after them       layer                                           SimNorm

Source: Hansen et al. 2022 (TD-MPC), appendix on the architecture, and its code, algorithm/helper.py (`enc`,
`RandomShiftsAug`); Hansen et al. 2024 (TD-MPC2) and its code, common/layers.py (`enc`, `conv`, `ShiftAug`); Kostrikov
et al. 2020 and Yarats et al. 2021 (DrQ, DrQ-v2) for the shifts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.nets.encoders import is_image, pixels, vector, vector_size
from reverie.nets.normed import normed_mlp, simnorm

Convolution = tuple[int, int]
"""kernel and stride"""


def random_shift(image: Tensor, u: Tensor, pad: int) -> Tensor:
    """Images moved by -pad to pad whole pixels in both directions; what comes in repeats the border.

    image: [N, H, W, C]. u: uniform in [0, 1), [N, 2], down and right. Returns the same shape and dtype.
    Source: Yarats et al. 2021 (DrQ-v2), section 3.1, whose bilinear reading at whole pixels this is.
    """
    count, height, width = image.shape[0], image.shape[1], image.shape[2]
    offset = (u * (2 * pad + 1)).long().clamp(max=2 * pad) - pad
    rows = (torch.arange(height, device=image.device) + offset[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) + offset[:, 1:]).clamp(0, width - 1)
    each = torch.arange(count, device=image.device)[:, None, None]
    return image[each, rows[:, :, None], columns[:, None, :]]


class LatentEncoder(nn.Module):
    """Observations, images stacked already, to latents [..., outputs].

    observation: vectors, indices, or one image. pad: pixels by which images are shifted at most (0: never).
    Raises ValueError for images beside anything else, and for images that the convolutions leave nothing of.
    """

    convolutions: tuple[Convolution, ...]
    body: nn.Module
    """from vectors [N, I], or from pixels as `seen` prepares them"""
    outputs: int

    def __init__(self, observation: Mapping[str, spaces.Space], pad: int) -> None:
        super().__init__()
        self.spaces, self.pad = dict(observation), pad
        images = [key for key, space in observation.items() if is_image(space)]
        self.image = images[0] if images else ""
        self.noise = 2 if images and pad else 0
        """uniform numbers per row that `forward` takes to shift it"""
        if not images:
            self.inputs = sum(vector_size(space) for space in observation.values())
            return
        if len(observation) > 1:
            raise ValueError(f"this agent sees one image or vectors, not several images or both, got {[*observation]}")
        height, width, self.inputs = observation[self.image].shape or ()
        if min(height, width) < (least := self.least_side()):
            raise ValueError(f"images need both sides >= {least} for this agent's encoder, got {height}x{width}")
        self.left = self._left(height) * self._left(width)
        """pixels that the convolutions leave of an image"""

    def convolve(self, stack: int, channels: int, last_act: bool) -> list[nn.Module]:
        """Convolutions of so many channels each, ReLU between them and, if wanted, after the last; flat in the end."""
        layers: list[nn.Module] = []
        inputs = stack * self.inputs
        for kernel, stride in self.convolutions:
            layers += [nn.Conv2d(inputs, channels, kernel, stride), nn.ReLU()]
            inputs = channels
        return [*(layers if last_act else layers[:-1]), nn.Flatten()]

    def seen(self, image: Tensor) -> Tensor:
        """Pixels [N, C, H, W] as the convolutions read them, of uint8 [N, H, W, C]."""
        return pixels(image)

    def normed(self, z: Tensor) -> Tensor:
        """Latents float32 of what the body made of images."""
        return z.float()

    def forward(self, obs: Mapping[str, Tensor], u: Tensor | None) -> Tensor:
        """Latents float32 [*lead, outputs] of observations key -> [*lead, ...].

        u: uniform [*lead, noise] by which images are shifted; None: they are not.
        """
        if not self.image:
            return self.body(torch.cat([vector(space, obs[key]) for key, space in self.spaces.items()], -1)).float()
        image = obs[self.image]
        lead, image = image.shape[:-3], image.flatten(0, -4)
        if self.noise and u is not None:
            image = random_shift(image, u.reshape(-1, 2), self.pad)
        return self.normed(self.body(self.seen(image))).unflatten(0, lead)

    @classmethod
    def least_side(cls) -> int:
        """Pixels that leave one after the convolutions."""
        side = 1
        for kernel, stride in reversed(cls.convolutions):
            side = (side - 1) * stride + kernel
        return side

    @classmethod
    def _left(cls, side: int) -> int:
        """Pixels of a side that the convolutions leave."""
        for kernel, stride in cls.convolutions:
            side = (side - kernel) // stride + 1
        return side


class PlainEncoder(LatentEncoder):
    """TD-MPC's: a hidden layer for vectors, convolutions and a layer for an image. First weights: `orthogonal_`.

    units: of the hidden layer. latent: numbers in a latent. channels: of each convolution.
    """

    convolutions = ((7, 2), (5, 2), (3, 2), (3, 2))

    def __init__(
        self,
        observation: Mapping[str, spaces.Space],
        stack: int,
        units: int,
        latent: int,
        channels: int,
        pad: int,
    ) -> None:
        super().__init__(observation, pad)
        self.outputs = latent
        if self.image:
            self.body = nn.Sequential(*self.convolve(stack, channels, True), nn.Linear(channels * self.left, latent))
        else:
            self.body = nn.Sequential(nn.Linear(self.inputs, units), nn.ELU(), nn.Linear(units, latent))
        orthogonal_(self)

    def seen(self, image: Tensor) -> Tensor:
        """Pixels in [0, 1]."""
        return image.movedim(-1, -3).float().mul_(1 / 255)


class SimplicialEncoder(LatentEncoder):
    """TD-MPC2's: latents whose groups are distributions.

    units, layers: of the encoder of vectors, max(layers - 1, 1) hidden layers. latent: numbers in a latent of vectors;
    an image gives as many as the convolutions leave. channels: of each convolution. group: of SimNorm.
    """

    convolutions = ((7, 2), (5, 2), (3, 2), (3, 1))

    def __init__(
        self,
        observation: Mapping[str, spaces.Space],
        stack: int,
        units: int,
        layers: int,
        latent: int,
        channels: int,
        pad: int,
        group: int,
    ) -> None:
        super().__init__(observation, pad)
        self.group = group
        if self.image:
            self.body = nn.Sequential(*self.convolve(stack, channels, False))
            self.outputs = channels * self.left
        else:
            act = partial(simnorm, group=group)
            self.body = normed_mlp(self.inputs, [units] * max(layers - 1, 1), latent, act)
            self.outputs = latent

    def normed(self, z: Tensor) -> Tensor:
        """Groups of numbers that sum to one."""
        return simnorm(z, self.group)


def orthogonal_(module: nn.Module) -> None:
    """First weights in place: orthogonal, of gain 1 for layers and sqrt(2) for convolutions; biases of zero.

    Source: Hansen et al. 2022 (TD-MPC), its code, algorithm/helper.py, ``orthogonal_init``.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(child.weight, 2**0.5 if isinstance(child, nn.Conv2d) else 1.0)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
