"""Small building blocks shared by every network: activations, Keras-like initialisation, MLPs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.nets.rms import RMSNorm
from reverie.ops.precision import full, without_autocast

Act = Literal["elu", "relu", "silu", "tanh"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"elu": F.elu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}
# The gradient of these needs their output only, so they may overwrite a fresh input. Not a view: autograd copies then.
IN_PLACE = {"elu": partial(F.elu, inplace=True), "relu": partial(F.relu, inplace=True)}


def activation(name: str, in_place: bool = False) -> Callable[[Tensor], Tensor]:
    """The activation function of that name; in_place: where it can overwrite. Raises ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return IN_PLACE.get(name, ACTIVATIONS[name]) if in_place else ACTIVATIONS[name]


Norm = bool | Literal["layer", "rms"]
"""What follows a layer: False nothing; True LayerNorm (DreamerV2's code); ``layer`` LayerNorm after a layer without a
bias (DreamerV3's of 2023); ``rms`` RMSNorm (DreamerV3's since)."""


def norm_of(kind: Norm, units: int) -> nn.Module:
    """The norm of a kind over the last axis; LayerNorm has eps 1e-3 (TensorFlow's default; PyTorch's is 1e-5)."""
    if kind == "rms":
        return RMSNorm(units)
    return nn.LayerNorm(units, eps=1e-3) if kind else nn.Identity()


def channel_norm_of(kind: Norm, channels: int) -> nn.Module:
    """The norm of a kind over the channels of every pixel of pictures [N, C, H, W]."""
    if kind == "rms":
        return ChannelRMSNorm(channels)
    return ChannelNorm(channels) if kind else nn.Identity()


class ChannelRMSNorm(RMSNorm):
    """RMSNorm over the channels of every pixel, [N, C, H, W] -> the same; see `ChannelNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """Pixels, each normalised."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel, [N, C, H, W] -> the same; free of copies where channels are last.

    Source: Keras' LayerNormalization on NHWC pictures, as DreamerV2's code has it with ``norm: layer``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)

    def forward(self, input: Tensor) -> Tensor:
        """Pixels, each normalised."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Numbers(nn.Linear):
    """A linear output in float32, where autocast is in force too: [..., inputs] -> [..., outputs].

    For what networks tell: a value of 300 in bfloat16 is a multiple of 2, which no backup of (1 - gamma) times what is
    missing gets over, and members of an ensemble that agree would differ by what was rounded.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Outputs; the hidden layers below keep the precision that they have."""
        with without_autocast(input):
            return super().forward(full(input))


def one_hot(index: Tensor, classes: int) -> Tensor:
    """One-hots float32 [..., classes] of int64 [...]. (torch's checks the range on the host and makes a GPU wait.)"""
    return (index.unsqueeze(-1) == torch.arange(classes, device=index.device)).float()


def glorot_(module: nn.Module) -> None:
    """Keras' default initialisation, in place: Glorot-uniform kernels and zero biases.

    Source: the TensorFlow codes of PlaNet and Dreamer V1/V2 leave every layer at this default.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


Fan = Literal["avg", "in"]
TRUNCATION = 0.87962566
"""standard deviation of a standard normal that is cut off at two of its standard deviations"""


def truncated_(module: nn.Module, fan: Fan) -> None:
    """DreamerV3's initialisation, in place: normals cut off at two standard deviations, and zero biases.

    The variance is one over the layer's inputs (``in``), or over the mean of its inputs and outputs (``avg``, 2023),
    where a convolution counts every tap of its kernel. Source: the code of DreamerV3.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            taps = child.weight[0, 0].numel()
            rows, columns = child.weight.shape[:2]
            outputs, inputs = (columns, rows) if isinstance(child, nn.ConvTranspose2d) else (rows, columns)
            truncated_normal_(child.weight, taps * inputs, taps * outputs, fan)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, BlockLinear):
            child.reset_parameters(fan)


def truncated_normal_(weight: Tensor, inputs: int, outputs: int, fan: Fan) -> None:
    """One weight of `truncated_`, of a layer with these inputs and outputs."""
    std = (1 / (inputs if fan == "in" else (inputs + outputs) / 2)) ** 0.5 / TRUNCATION
    nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std)


class BlockLinear(nn.Module):
    """Fully connected layer with a block-diagonal matrix: [..., inputs] -> [..., outputs], in `blocks` equal parts.

    weight: [blocks, inputs / blocks, outputs / blocks]. Its initial variance is one over *all* inputs, smaller by a
    factor `blocks` than that of a layer with the inputs of one block. Source: the code of DreamerV3.
    Raises ValueError where the parts are not equal.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        if inputs % blocks or outputs % blocks:
            raise ValueError(f"{inputs} inputs and {outputs} outputs cannot be divided into {blocks} blocks")
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.reset_parameters("in")

    def reset_parameters(self, fan: Fan) -> None:
        """Weights as `truncated_` has them, and zero biases."""
        truncated_normal_(self.weight, self.blocks * self.weight.shape[1], self.blocks * self.weight.shape[2], fan)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of x."""
        parts = x.reshape(-1, self.blocks, self.weight.shape[1]).transpose(0, 1)
        return self.apart(parts).transpose(0, 1).reshape(*x.shape[:-1], -1)

    def apart(self, parts: Tensor) -> Tensor:
        """Outputs [blocks, N, outputs / blocks] of each block, of what each reads, [blocks, N, inputs / blocks]."""
        return torch.baddbmm(self.bias.view(self.blocks, 1, -1), parts, self.weight)


class MLP(nn.Module):
    """`layers` fully connected layers of `units`, each followed by an optional norm and the activation.

    [..., inputs] -> [..., units]. With layers = 0 it is the identity.
    Source: DreamerV2, appendix on networks (4 layers of 400, ELU).
    """

    def __init__(self, inputs: int, layers: int, units: int, act: str = "elu", norm: Norm = False) -> None:
        super().__init__()
        sizes = [inputs] + [units] * layers
        self.act = activation(act, in_place=True)
        self.layers = nn.ModuleList(nn.Linear(i, o, bias=norm != "layer") for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(norm_of(norm, o) for o in sizes[1:])
        self.outputs = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [..., outputs] of x [..., inputs]."""
        lead = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])  # two axes: the product of more is a view, which is not overwritten for free
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.act(norm(layer(x)))
        return x.view(*lead, self.outputs)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Context in which the module's parameters get no gradients (which still flow through it)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
