"""TD-MPC2's layers: SimNorm by hand, an ensemble against its members one by one, shifts against padding and cutting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn import functional as F

from reverie.nets.latent_encoder import SimplicialEncoder, random_shift
from reverie.nets.normed import NormedEnsemble, NormedLinear, mish, normed_mlp, simnorm


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mish_without_gradients_is_that_with_them() -> None:
    x = torch.cat([torch.linspace(-30.0, 30.0, 10_001), torch.tensor([-1e4, -100.0, 0.0, 20.0, 100.0, 1e30])])
    exact = x.double() * torch.tanh(torch.log1p(torch.exp(x.double().clamp(max=700.0))))
    with torch.no_grad():
        apart = mish(x)
    for y in (apart, mish(x)):
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-37)
    one = torch.ones(1, dtype=torch.float64)  # tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2)
    with torch.no_grad():
        torch.testing.assert_close(mish(one), one * math.tanh(math.log(1.0 + math.e)), rtol=1e-14, atol=0.0)
    with torch.no_grad():
        half = x.clamp(-100.0, 100.0).half()
        assert torch.equal(mish(half), F.mish(half))
    given = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    kept = given.clone()
    with torch.no_grad():
        mish(given)
    assert torch.equal(given, kept)


def test_simnorm_by_hand() -> None:
    """Two groups of two: softmax(0, ln 3) = (1/4, 3/4), softmax(5, 5) = (1/2, 1/2)."""
    x = torch.tensor([[0.0, math.log(3.0), 5.0, 5.0]])
    torch.testing.assert_close(simnorm(x, 2), torch.tensor([[0.25, 0.75, 0.5, 0.5]]))
    torch.testing.assert_close(simnorm(x, 1), torch.ones(1, 4))
    assert simnorm(torch.randn(3, 2, 16, generator=seeded())).unflatten(-1, (2, 8)).sum(-1).allclose(torch.ones(()))
    with pytest.raises(ValueError, match="4 numbers cannot be divided into groups of 3"):
        simnorm(x, 3)


def test_a_normed_layer_by_hand() -> None:
    """W x + b = (3, 1): normed (1, -1) up to eps, times (2, 1) plus (0, 1): (2, 0); then Mish."""
    layer = NormedLinear(1, 2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[2.0], [1.0]]))
        layer.linear.bias.copy_(torch.tensor([1.0, 0.0]))
        layer.norm.weight.copy_(torch.tensor([2.0, 1.0]))
        layer.norm.bias.copy_(torch.tensor([0.0, 1.0]))
    expected = [2.0 * math.tanh(math.log1p(math.exp(2.0))), 0.0]
    assert layer(torch.ones(1)).tolist() == pytest.approx(expected, abs=1e-4)
    assert layer.norm.eps == 1e-5


def members(ensemble: NormedEnsemble) -> list[nn.Sequential]:
    """Its members as plain networks."""
    made = []
    for k in range(ensemble.members):
        inputs, outputs = ensemble.weights[0].shape[1], ensemble.weights[2].shape[2]
        one = normed_mlp(inputs, [ensemble.units] * 2, outputs)
        with torch.no_grad():
            for i, layer in enumerate((one[0].linear, one[1].linear, one[2])):
                layer.weight.copy_(ensemble.weights[i][k].T)
                layer.bias.copy_(ensemble.biases[i][k, 0])
            for i in range(2):
                one[i].norm.weight.copy_(ensemble.scales[i][k, 0])
                one[i].norm.bias.copy_(ensemble.shifts[i][k, 0])
        made.append(one)
    return made


def test_an_ensemble_is_its_members() -> None:
    ensemble, generator = NormedEnsemble(3, 5, 6, 4, dropout=0.5), seeded()
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    x, each = torch.randn(2, 7, 5, generator=generator), members(ensemble)
    torch.testing.assert_close(ensemble(x), torch.stack([one(x) for one in each]))
    chosen = torch.tensor([2, 0])
    torch.testing.assert_close(ensemble(x, chosen=chosen), torch.stack([each[2](x), each[0](x)]))
    u = torch.rand(2, 14, 6, generator=generator)
    for place, k in enumerate(chosen.tolist()):
        first = each[k][0].linear(x.flatten(0, 1))
        first = torch.where(u[place] < 0.5, 0.0, 2.0 * first)  # what is left out, before the norm
        expected = each[k][2](each[k][1](F.mish(each[k][0].norm(first)))).unflatten(0, (2, 7))
        torch.testing.assert_close(ensemble(x, u, chosen)[place], expected)


def test_first_weights() -> None:
    torch.manual_seed(0)
    ensemble, net = NormedEnsemble(4, 30, 40, 11), normed_mlp(30, [40, 40], 11, zero=True)
    for weight in (ensemble.weights[0], ensemble.weights[1], net[0].linear.weight, net[1].linear.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    x = torch.randn(3, 30)
    assert not net(x).any()
    assert not ensemble(x).any()
    assert normed_mlp(30, [40], 11)[1].weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert not any(bias.any() for bias in ensemble.biases)


def test_shifts_are_cuts_out_of_a_padded_image() -> None:
    image = torch.randint(0, 256, (49, 6, 8, 3), generator=seeded(), dtype=torch.uint8)
    u = torch.cartesian_prod(torch.arange(7), torch.arange(7)) / 7 + 0.01
    found = random_shift(image, u, 3)
    padded = F.pad(image.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), mode="replicate").permute(0, 2, 3, 1)
    for n in range(49):
        down, right = n // 7, n % 7
        assert torch.equal(found[n].float(), padded[n, down : down + 6, right : right + 8])
    assert torch.equal(random_shift(image, torch.full((49, 2), 0.5), 3), image)
    assert torch.equal(
        random_shift(image, torch.full((49, 2), 1.0), 3), random_shift(image, torch.full((49, 2), 0.99), 3)
    )


def test_the_encoder_of_images() -> None:
    """64x64 leave 29, 13, 6 and 4 pixels a side: 512 numbers with 32 channels; each row has a shift of its own."""
    box = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    encoder = SimplicialEncoder({"image": box}, 3, 8, 2, 16, 32, 3, 8)
    assert (encoder.outputs, encoder.noise) == (512, 2)
    assert [encoder.body[i].weight.shape[:2] for i in (0, 2, 4, 6)] == [(32, 9), (32, 32), (32, 32), (32, 32)]
    image = torch.randint(0, 256, (2, 1, 64, 64, 9), generator=seeded(), dtype=torch.uint8)
    u = torch.rand(2, 1, 2, generator=seeded())
    found = encoder({"image": image}, u)
    moved = random_shift(image.flatten(0, 1), u.flatten(0, 1), 3)
    expected = simnorm(encoder.body(moved.permute(0, 3, 1, 2).float() / 255 - 0.5))
    torch.testing.assert_close(found[:, 0], expected)
    vectors = {"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Discrete(3)}
    layers = SimplicialEncoder(vectors, 3, 8, 3, 16, 32, 3, 8)
    assert [tuple(layer.linear.weight.shape) for layer in layers.body] == [(8, 5), (8, 8), (16, 8)]
    assert layers.noise == 0


def test_what_the_encoder_cannot_see_is_refused() -> None:
    small, big = (spaces.Box(0, 255, (side, 64, 3), np.uint8) for side in (38, 39))
    with pytest.raises(ValueError, match="both sides >= 39 for this agent's encoder, got 38x64"):
        SimplicialEncoder({"image": small}, 1, 8, 2, 16, 8, 3, 8)
    assert SimplicialEncoder({"image": big}, 1, 8, 2, 16, 8, 0, 8).outputs == 8 * 1 * 4
    with pytest.raises(ValueError, match="one image or vectors, not several images or both"):
        SimplicialEncoder({"image": big, "v": spaces.Discrete(2)}, 1, 8, 2, 16, 8, 3, 8)
