"""Small building blocks shared by every network: activations, Keras-like initialisation, MLPs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"elu": F.elu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}
# The gradient of these needs their output only, so they may overwrite a fresh input. Not a view: autograd copies then.
IN_PLACE = {"elu": partial(F.elu, inplace=True), "relu": partial(F.relu, inplace=True)}


def activation(name: str, in_place: bool = False) -> Callable[[Tensor], Tensor]:
    """The activation function of that name; in_place: where it can overwrite. Raises ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return IN_PLACE.get(name, ACTIVATIONS[name]) if in_place else ACTIVATIONS[name]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel, [N, C, H, W] -> the same; free of copies where channels are last.

    Source: Keras' LayerNormalization on NHWC pictures, as DreamerV2's code has it with ``norm: layer``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)

    def forward(self, input: Tensor) -> Tensor:
        """Pixels, each normalised."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


class MLP(nn.Module):
    """`layers` fully connected layers of `units`, each followed by an optional LayerNorm and the activation.

    [..., inputs] -> [..., units]. LayerNorm uses eps 1e-3 (TensorFlow's default; PyTorch's is 1e-5).
    With layers = 0 it is the identity. Source: DreamerV2, appendix on networks (4 layers of 400, ELU).
    """

    def __init__(self, inputs: int, layers: int, units: int, act: str = "elu", norm: bool = False) -> None:
        super().__init__()
        sizes = [inputs] + [units] * layers
        self.act = activation(act, in_place=True)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(o, eps=1e-3) if norm else nn.Identity() for o in sizes[1:])
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
