"""TD-MPC2's encoders: vectors through normed layers, or one image, shifted at random, through a few convolutions.

::

    vectors   concatenated -> normed layers -> normed layer with SimNorm                                  L numbers
    image     shifted -> [-0.5, 0.5] -> conv 7/2, 5/2, 3/2, 3/1, ReLU between -> SimNorm       32 * 4 * 4 of 64x64

Source: Hansen et al. 2024 (TD-MPC2) and its code, common/layers.py (`enc`, `conv`, `ShiftAug`); Kostrikov et al. 2020
and Yarats et al. 2021 (DrQ, DrQ-v2) for the shifts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.nets.encoders import is_image, pixels, vector, vector_size
from reverie.nets.normed import normed_mlp, simnorm

LEAST_SIDE = 39
"""pixels that leave one after the four convolutions"""


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
    """Observations, images stacked already, to latents [..., outputs] whose groups are distributions.

    observation: vectors, indices, or one image. units, layers: of the encoder of vectors, max(layers - 1, 1) hidden
    layers. latent: numbers in a latent of vectors; an image gives as many as the convolutions leave. channels: of each
    convolution. pad: pixels by which images are shifted at most (0: never). group: of SimNorm.
    Raises ValueError for images beside anything else, and for images under 39 pixels a side.
    """

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
        super().__init__()
        self.spaces, self.pad, self.group = dict(observation), pad, group
        images = [key for key, space in observation.items() if is_image(space)]
        self.image = images[0] if images else ""
        self.noise = 2 if images and pad else 0
        """uniform numbers per row that `forward` takes"""
        if not images:
            inputs = sum(vector_size(space) for space in observation.values())
            act = partial(simnorm, group=group)
            self.body = normed_mlp(inputs, [units] * max(layers - 1, 1), latent, act)
            self.outputs = latent
            return
        if len(observation) > 1:
            raise ValueError(f"TD-MPC2 sees one image or vectors, not several images or both, got {list(observation)}")
        height, width, colours = observation[self.image].shape or ()
        if min(height, width) < LEAST_SIDE:
            raise ValueError(f"images need both sides >= {LEAST_SIDE} for TD-MPC2's encoder, got {height}x{width}")
        c = channels
        self.body = nn.Sequential(
            *(nn.Conv2d(stack * colours, c, 7, 2), nn.ReLU(), nn.Conv2d(c, c, 5, 2), nn.ReLU()),
            *(nn.Conv2d(c, c, 3, 2), nn.ReLU(), nn.Conv2d(c, c, 3, 1), nn.Flatten()),
        )
        self.outputs = c * _left(height) * _left(width)

    def forward(self, obs: Mapping[str, Tensor], u: Tensor) -> Tensor:
        """Latents float32 [*lead, outputs] of observations key -> [*lead, ...]. u: uniform [*lead, noise]."""
        if not self.image:
            return self.body(torch.cat([vector(space, obs[key]) for key, space in self.spaces.items()], -1)).float()
        image = obs[self.image]
        lead, image = image.shape[:-3], image.flatten(0, -4)
        if self.noise:
            image = random_shift(image, u.reshape(-1, 2), self.pad)
        return simnorm(self.body(pixels(image)), self.group).unflatten(0, lead)


def _left(side: int) -> int:
    """Pixels of a side that the convolutions leave."""
    for kernel, stride in ((7, 2), (5, 2), (3, 2), (3, 1)):
        side = (side - kernel) // stride + 1
    return side
