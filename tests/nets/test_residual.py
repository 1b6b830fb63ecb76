"""IMPALA's networks: sizes and parameters as published, pooling as TensorFlow pads it, first parameters."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn import functional as F

from reverie.agents.impala import IMPALA, IMPALAConfig
from reverie.envs.env import EnvSpec
from reverie.nets.cores import GRU, LSTM
from reverie.nets.initialise import initialise
from reverie.nets.torsos import NatureCNN, Residual, ResidualCNN, TorsoConfig

ATARI = EnvSpec("test", {"image": spaces.Box(0, 255, (84, 84, 1), np.uint8)}, spaces.Discrete(18))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_deep_network_has_the_published_size() -> None:
    """84 -> 42 -> 21 -> 11 pixels, 3872 features, 15 convolutions; with LSTM and heads 1.6 million parameters."""
    policy = IMPALA(IMPALAConfig(core="lstm"), ATARI).policy()
    cnn = policy.body.torso.cnns[0]
    assert isinstance(cnn, ResidualCNN)
    assert cnn.outputs == 11 * 11 * 32 == 3872
    assert sum(isinstance(module, nn.Conv2d) for module in cnn.modules()) == 15
    assert count(cnn) == 97_744
    assert policy.body.torso.dense is not None
    assert count(policy.body.torso.dense) == 3872 * 256 + 256 == 991_488
    # 256 features, an action of 18 and a reward; one vector of biases more than the released code has
    assert count(policy.body.core) - 4 * 256 == 4 * (256 + 1 + 18 + 256) * 256 + 4 * 256 == 544_768
    assert (count(policy.actor), count(policy.critic)) == (4626, 257)


def test_the_shallow_network_of_a3c() -> None:
    cnn = NatureCNN((84, 84, 4), (16, 32))
    assert cnn.outputs == 9 * 9 * 32
    assert [conv.kernel_size[0] for conv in cnn.convs] == [8, 4]  # type: ignore[union-attr, index]
    for channels in ((8,), (8, 8, 8, 8)):
        with pytest.raises(ValueError, match="two or three convolutions"):
            TorsoConfig(channels=channels)
    with pytest.raises(ValueError, match="channels must be positive"):
        TorsoConfig(cnn="residual", channels=())


@pytest.mark.parametrize("shape", [(84, 84), (7, 10), (5, 8), (2, 2), (1, 3)])
def test_it_is_what_it_says_of_every_size(shape: tuple[int, int]) -> None:
    """Layer by layer, with SAME padding written out: as little as needed, the odd one at the end."""
    torch.manual_seed(0)
    cnn = ResidualCNN((*shape, 2), (3, 4))
    image = torch.randint(0, 256, (2, *shape, 2), dtype=torch.uint8)
    x = image.permute(0, 3, 1, 2).float() / 255
    for conv, blocks in zip(cnn.convs, cnn.blocks, strict=True):
        x = conv(x)
        pads = [max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in x.shape[-2:]]
        high, wide = [(pad // 2, pad - pad // 2) for pad in pads]
        x = F.max_pool2d(F.pad(x, (*wide, *high), value=-torch.inf), 3, 2)
        for block in blocks:  # type: ignore[union-attr]
            x = x + block.second(torch.relu(block.first(torch.relu(x))))
    expected = torch.relu(x).permute(0, 2, 3, 1).flatten(1)
    assert cnn(image).shape == (2, cnn.outputs)
    torch.testing.assert_close(cnn(image), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_block_leaves_its_input_alone() -> None:
    x = torch.randn(1, 3, 4, 4)
    before = x.clone()
    Residual(3)(x)
    assert torch.equal(x, before)


def initialised(kind: str, core: nn.Module, forget: float = 0.0) -> tuple[nn.Module, nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    body = nn.ModuleList([nn.Conv2d(16, 64, 3), nn.Linear(100, 50), core])
    actor, critic = nn.Linear(50, 6), nn.Linear(50, 1)
    initialise(kind, body, actor, critic, forget)  # type: ignore[arg-type]
    return body, actor, critic


def test_sonnets_first_parameters() -> None:
    (conv, dense, lstm), actor, critic = initialised("sonnet", LSTM(30, 40), 0.5)  # type: ignore[misc]
    for layer, fan_in in ((conv, 16 * 9), (dense, 100), (actor, 50), (critic, 50)):
        weight, std = layer.weight, fan_in**-0.5
        assert weight.abs().max() <= 2 * std + 1e-6
        if weight.numel() > 1000:  # 0.88: what is left of the deviation when two of them are cut
            assert weight.std().item() == pytest.approx(0.88 * std, rel=0.05)
        assert not layer.bias.any()
    limit = (6 / (30 + 40 + 160)) ** 0.5
    assert 0.95 * limit < lstm.cell.weight_ih.abs().max() <= limit
    assert 0.95 * limit < lstm.cell.weight_hh.abs().max() <= limit
    gates = (lstm.cell.bias_ih + lstm.cell.bias_hh).unflatten(0, (4, 40))
    assert torch.equal(gates, torch.tensor([0.0, 1.5, 0.0, 0.0]).unsqueeze(1).expand(4, 40))


def test_orthogonal_first_parameters() -> None:
    (conv, dense, gru), actor, critic = initialised("orthogonal", GRU(30, 40))  # type: ignore[misc]
    for layer, gain in ((conv, 2**0.5), (dense, 2**0.5), (actor, 0.01), (critic, 1.0)):
        rows = layer.weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, gain**2 * torch.eye(len(rows)), rtol=1e-3, atol=1e-4)
        assert not layer.bias.any()
    columns = gru.cell.weight_ih
    torch.testing.assert_close(columns.T @ columns, torch.eye(30), rtol=1e-3, atol=1e-4)


def test_pytorchs_first_parameters_stay_and_others_are_refused() -> None:
    body = nn.ModuleList([nn.Conv2d(16, 64, 3), nn.Linear(100, 50), LSTM(30, 40)])
    before = [parameter.clone() for parameter in body.parameters()]
    initialise("torch", body, nn.Linear(50, 6), nn.Linear(50, 1))
    assert all(torch.equal(a, b) for a, b in zip(body.parameters(), before, strict=True))
    with pytest.raises(ValueError, match="init must be one of torch, sonnet, orthogonal, got 'xavier'"):
        initialised("xavier", LSTM(30, 40))
