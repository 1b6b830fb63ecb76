"""Decoders: model features -> the mean of a unit-variance Gaussian for every observation key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.encoders import PAPER, EncoderConfig, halvings, is_image, padded, vector_size
from reverie.nets.layers import MLP, Numbers, activation, channel_norm_of


class UpConv(nn.ConvTranspose2d):
    """A stride-2 transposed convolution, computed on a CPU by the cheaper of three equal forms.

    A 1x1 input is a matrix product. An even kernel is four ordinary convolutions, one for each parity of the output
    pixel, done as one and interleaved: y[2m+p] = sum_i w[2i+p] x[m-i]. Both spare the scatter of the general form,
    which is what libraries compute on a CPU, and slow there. The parameters are those of the parent.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Output of x [N, in, h, w]: [N, out, 2h + k - 2 - 2 padding, 2w + k - 2 - 2 padding]."""
        kernel = self.kernel_size[0]
        single = x.shape[-2:] == (1, 1)
        if x.is_cuda or any(self.output_padding) or (kernel % 2 and not single):
            return super().forward(x, output_size)
        if single:
            y = (x.flatten(1) @ self.weight.flatten(1)).view(-1, self.out_channels, kernel, kernel)
            return self.crop(y if self.bias is None else y + self.bias[:, None, None])
        taps = kernel // 2
        weight = self.weight.reshape(self.in_channels, self.out_channels, taps, 2, taps, 2).flip(2, 4)
        weight = weight.permute(3, 5, 1, 0, 2, 4).reshape(4 * self.out_channels, self.in_channels, taps, taps)
        weight = weight.contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.repeat(4)
        return self.crop(interleave(F.conv2d(x, weight, bias, padding=taps - 1)))

    def crop(self, y: Tensor) -> Tensor:
        """y without the border pixels that the padding of a transposed convolution takes away."""
        top, left = int(self.padding[0]), int(self.padding[1])
        return y[..., top : y.shape[-2] - top, left : y.shape[-1] - left] if top or left else y


def interleave(y: Tensor) -> Tensor:
    """Pixels [N, c, 2H, 2W] of [N, (p q c), H, W], with pixel (2h + p, 2w + q) from parity (p, q).

    Channels are last in memory before and after, so that runs of 2 c numbers move at once (torch's pixel_shuffle moves
    single numbers and leaves channels first, which the next convolution undoes).
    """
    count, channels, height, width = y.shape
    parts = y.permute(0, 2, 3, 1).unflatten(-1, (2, channels // 2)).permute(0, 1, 3, 2, 4)
    return parts.reshape(count, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


class ImageDecoder(nn.Module):
    """Transposed convolutions, stride 2, valid. [N, inputs] -> [N, C, H, W], the mean in [-0.5, 0.5] units.

    64x64: linear to 1x1x(32 depth), kernels 5, 5, 6, 6 to 4 depth, 2 depth, depth, C channels (1, 5, 13, 30, 64).
    Other sizes: the mirror image of `ImageEncoder`: kernels 4 that double exactly, then the padding is cut off.
    Source: Ha & Schmidhuber 2018, PlaNet, Dreamer V1/V2 for 64x64; the mirror is ours.
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        height, width, channels = self.shape = shape
        self.act = activation(config.act)
        if (height, width) == PAPER and config.convolutions == "valid":
            self.base = (32 * config.depth, 1, 1)
            depths = [32 * config.depth, 4 * config.depth, 2 * config.depth, config.depth, channels]
            kernels, padding = [5, 5, 6, 6], 0
        else:
            stages = halvings(height, width)
            depths = [config.depth * 2**i for i in reversed(range(stages))] + [channels]
            self.base = (depths[0], padded(height, stages) >> stages, padded(width, stages) >> stages)
            kernels, padding = [4] * stages, 1
        self.linear = nn.Linear(inputs, self.base[0] * self.base[1] * self.base[2])
        # Layers that a norm of the kind `layer` follows have no bias; nothing follows the last.
        biased = [config.norm != "layer"] * (len(kernels) - 1) + [True]
        self.deconvs = nn.ModuleList(
            UpConv(i, o, k, 2, padding=padding, bias=b)
            for (i, o), k, b in zip(pairwise(depths), kernels, biased, strict=True)
        )
        self.norms = nn.ModuleList(channel_norm_of(config.norm, o) for o in depths[1:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Means [N, C, H, W] of features [N, inputs]."""
        x = self.linear(x).view(-1, *self.base)
        for deconv, norm in zip(self.deconvs, self.norms, strict=False):
            x = self.act(norm(deconv(x)))
        x = self.deconvs[-1](x)
        whole = x.shape[-2:] == self.shape[:2]
        return x if whole else x[..., : self.shape[0], : self.shape[1]]


class Decoder(nn.Module):
    """One `ImageDecoder` per image key and one MLP with a linear output per other key.

    features [*lead, inputs] -> key -> mean: images [*lead, C, H, W], others [*lead, vector_size]. cnn: the kind of CNN.
    Source: DreamerV2 code (one MLP for all vector keys there; the outputs are independent given its last layer).
    """

    def __init__(
        self,
        inputs: int,
        observation: Mapping[str, spaces.Space],
        config: EncoderConfig,
        cnn: Callable[[int, tuple[int, ...], EncoderConfig], nn.Module] = ImageDecoder,
    ) -> None:
        super().__init__()
        self.images = {key: space for key, space in observation.items() if is_image(space)}
        self.vectors = {key: space for key, space in observation.items() if not is_image(space)}
        self.cnns = nn.ModuleList(cnn(inputs, tuple(s.shape or ()), config) for s in self.images.values())
        if self.vectors:
            self.mlp = MLP(inputs, config.layers, config.units, config.act, config.norm)
            self.heads = nn.ModuleList(Numbers(self.mlp.outputs, vector_size(s)) for s in self.vectors.values())

    def forward(self, features: Tensor, keys: Collection[str] | None = None) -> dict[str, Tensor]:
        """Means by key of features [*lead, inputs]. keys: which; None: all."""
        lead = features.shape[:-1]
        flat = features.flatten(0, -2)
        wanted = {*self.images, *self.vectors}.intersection(keys) if keys is not None else {*self.images, *self.vectors}
        means = {key: cnn(flat) for key, cnn in zip(self.images, self.cnns, strict=True) if key in wanted}
        if wanted & self.vectors.keys():
            hidden = self.mlp(flat)
            means |= {key: head(hidden) for key, head in zip(self.vectors, self.heads, strict=True) if key in wanted}
        return {key: mean.view(*lead, *mean.shape[1:]) for key, mean in means.items()}
