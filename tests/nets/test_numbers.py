"""Outputs that are plain numbers, under autocast: in float32, so that a value of 300 is no multiple of 2."""

from collections.abc import Callable

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.agents.dpg_policy import Layers
from reverie.agents.tdmpc_model import Critics, TaskModel
from reverie.nets.critics import Critic, PopArt
from reverie.nets.decoders import Decoder
from reverie.nets.encoders import EncoderConfig
from reverie.nets.ensemble import Ensemble
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import Numbers
from reverie.nets.noisy import NoisyNumbers, NoisyStream
from reverie.nets.q_heads import DuelingQ, PlainQ

INPUTS = 12
SMALL = HeadConfig(layers=1, units=16)
VECTOR = {"x": spaces.Box(-1, 1, (3,))}


def factors(net: NoisyStream, x: Tensor) -> Tensor:
    """Noise of a stream, the same for all rows of x."""
    return torch.linspace(-0.5, 0.5, net.noise).expand(len(x), -1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "head": (lambda: Head(INPUTS, None, SMALL), lambda net, x: net(x)),
    "head of several": (lambda: Head(INPUTS, 5, SMALL), lambda net, x: net(x)),
    "ensemble": (lambda: Ensemble(INPUTS, 3, 2, SMALL), lambda net, x: net(x)),
    "action values": (lambda: PlainQ(INPUTS, 4, 16), lambda net, x: net(x, x[..., :0])),
    "dueling": (lambda: DuelingQ(INPUTS, 4, 0), lambda net, x: net(x, x[..., :0])),
    "stream": (lambda: NoisyStream(INPUTS, 16, 4, None), lambda net, x: net(x, x[..., :0])),
    "noisy stream": (lambda: NoisyStream(INPUTS, 16, 4, 0.5), lambda net, x: net(x, factors(net, x))),
    "actor-critic": (lambda: Critic(INPUTS), lambda net, x: net(x)),
    "popart": (lambda: PopArt(INPUTS, 1), lambda net, x: net(x)),
    "dpg": (lambda: Layers(INPUTS, (16,), 1, "relu"), lambda net, x: net(x)),
    "tdmpc's critics": (lambda: Critics(INPUTS, 16), lambda net, x: net(x)),
    "tdmpc's rewards": (lambda: TaskModel(10, 2, 16, 0.1, 0.3), lambda net, x: net.pays(x[..., :10], x[..., 10:])),
    "decoded vectors": (lambda: Decoder(INPUTS, VECTOR, EncoderConfig(units=16)), lambda net, x: net(x)["x"]),
}


def test_the_layer_is_float32s_under_autocast_too() -> None:
    torch.manual_seed(0)
    layer, rounding, x = Numbers(INPUTS, 3), nn.Linear(INPUTS, 3), torch.randn(7, INPUTS)
    rounding.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        told, rounded = layer(x), rounding(x)
        below = layer(x.bfloat16())
        assert rounding(x).dtype == torch.bfloat16  # autocast is in force again
    assert torch.equal(told, layer(x))
    assert not torch.equal(told, rounded.float())
    assert torch.equal(below, layer(x.bfloat16().float()))
    gradients = torch.autograd.grad(told.sum(), list(layer.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


@pytest.mark.parametrize("name", NETWORKS)
def test_large_numbers_keep_their_places(name: str) -> None:
    torch.manual_seed(0)
    make, read = NETWORKS[name]
    net, x = make(), torch.randn(32, INPUTS)
    biases = [layer.bias for layer in net.modules() if isinstance(layer, Numbers)]
    biases += [layer.mean.bias for layer in net.modules() if isinstance(layer, NoisyNumbers)]
    assert biases
    for bias in biases:
        nn.init.constant_(bias, 300.0)
    exact = read(net, x)
    with torch.autocast("cpu", torch.bfloat16):
        told = read(net, x)
    assert told.dtype == torch.float32
    assert float(exact.detach().mean()) > 290
    assert torch.allclose(told, exact, rtol=0, atol=0.1)  # between 256 and 512 bfloat16 has even numbers alone
