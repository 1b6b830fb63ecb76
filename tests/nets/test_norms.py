"""What DreamerV3's layers have that earlier ones lack: norms, truncated initialisation, padded convolutions, symlog."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from reverie.nets.decoders import Decoder, UpConv
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import MLP, ChannelRMSNorm, Fan, Norm, norm_of, truncated_
from reverie.nets.rms import RMSNorm
from reverie.nets.rssm import RSSM, GRUCell, RSSMConfig


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0]))
    size = math.sqrt((9 + 16) / 2 + 1e-4)
    assert norm(torch.tensor([[3.0, -4.0]])).tolist()[0] == pytest.approx([3 / size, -8 / size])
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    assert norm(torch.ones(1, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_pictures_are_normalised_over_channels_pixel_by_pixel() -> None:
    x = torch.randn(2, 3, 4, 5)
    out = ChannelRMSNorm(3)(x)
    for n, h, w in ((0, 0, 0), (1, 3, 4)):
        pixel = x[n, :, h, w]
        assert torch.allclose(out[n, :, h, w], pixel / (pixel.square().mean() + 1e-4).sqrt(), atol=1e-6)


@pytest.mark.parametrize(("norm", "parameters"), [(False, 1), (True, 3), ("layer", 2), ("rms", 2)])
def test_a_bias_or_a_norm_that_has_one(norm: Norm, parameters: int) -> None:
    """Per unit beside the weights: a bias; bias, scale and shift; scale and shift; bias and scale."""
    count = sum(p.numel() for p in MLP(3, 2, 5, "silu", norm).parameters())
    assert count == 3 * 5 + 5 * 5 + 2 * 5 * parameters
    rssm = RSSM(4, 3, RSSMConfig(deter=6, hidden=5, stoch=2, classes=3, act="silu", norm=norm))
    biased = norm != "layer"
    assert (rssm.cell.linear.bias is not None) == biased
    assert (rssm.post_deter.bias is not None) == biased
    assert rssm.prior_out.bias is not None


@pytest.mark.parametrize(("fan", "means"), [("in", (300, 150, 50)), ("avg", (350, 225, 125))])
def test_weights_are_truncated_normals_of_the_right_size(fan: Fan, means: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(300, 400), nn.Conv2d(6, 12, 5), nn.ConvTranspose2d(2, 8, 5)])
    truncated_(layers, fan)
    for layer, mean in zip(layers, means, strict=True):
        std = 1 / math.sqrt(mean)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
        assert layer.weight.abs().max().item() <= 2 * std / 0.8796
        assert layer.weight.abs().max().item() > 1.5 * std
        assert not layer.bias.any()


def test_padded_convolutions_halve_64_pixels_four_times_and_back() -> None:
    space = {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}
    config = EncoderConfig(depth=2, act="silu", norm="layer", convolutions="same")
    encoder, decoder = Encoder(space, config), Decoder(7, space, config)
    assert encoder.outputs == 4 * 4 * 16
    assert decoder(torch.randn(2, 7))["image"].shape == (2, 3, 64, 64)
    assert [layer.bias is None for layer in decoder.cnns[0].deconvs] == [True, True, True, False]
    assert all(layer.bias is None for layer in encoder.cnns[0].convs)


def test_vectors_are_read_as_their_symlog_and_indices_as_they_are() -> None:
    space = {"x": spaces.Box(-1e6, 1e6, (2,), np.float32), "k": spaces.Discrete(2)}
    encoder = Encoder(space, EncoderConfig(layers=0, symlog=True))
    read = encoder({"x": torch.tensor([[math.e - 1, -(math.e**2 - 1)]]), "k": torch.tensor([1])})
    assert read[0].tolist() == pytest.approx([1.0, -2.0, 0.0, 1.0], rel=1e-6)


def test_a_head_may_begin_with_zeros() -> None:
    head = Head(3, 4, HeadConfig(layers=1, units=5, norm="rms"))
    head.scale_output(0.0)
    nn.init.zeros_(head.out.bias)
    assert not head(torch.randn(6, 3)).any()


@pytest.mark.parametrize("side", [1, 3])
def test_upward_convolutions_without_a_bias(side: int) -> None:
    torch.manual_seed(0)
    layer = UpConv(3, 2, 4, 2, padding=1, bias=False)
    x = torch.randn(2, 3, side, side)
    assert torch.allclose(layer(x), nn.ConvTranspose2d.forward(layer, x), atol=1e-5)


def test_a_layers_norm_has_tensorflows_epsilon() -> None:
    """Of 0 and 0.02, whose variance is 1e-4: 0.01 / sqrt(1e-4 + 1e-3)."""
    for norm in (norm_of(True, 2), GRUCell(1, 1).norm):
        width = norm.normalized_shape[0]  # type: ignore[union-attr]
        values = torch.tensor([0.0, 0.02] if width == 2 else [0.0, 0.02, 0.01])
        variance = values.var(correction=0)
        found = norm(values)
        assert found[1].item() == pytest.approx(float((0.02 - values.mean()) / torch.sqrt(variance + 1e-3)), rel=1e-4)
