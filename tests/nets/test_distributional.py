"""Noisy layers and distributional heads: by hand, against slow loops, and their noise."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reverie.nets.distributional_heads import ImplicitQuantiles, RainbowQ
from reverie.nets.noisy import MEAN, NoisyLinear, NoisyStream, factor_noise
from reverie.nets.q_heads import DuelingQ, PlainQ, QHead, stream
from reverie.nets.values import Atoms, Scalar
from reverie.ops.projection import atoms


def phi(z: float) -> float:
    """The distribution function of a standard normal."""
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def test_factor_noise_is_the_signed_root_of_a_normal() -> None:
    z = torch.tensor([-4.0, -0.25, 0.25, 1.0, 2.25])
    u = torch.tensor([phi(float(each)) for each in z])
    assert factor_noise(u).tolist() == pytest.approx([-2.0, -0.5, 0.5, 1.0, 1.5], rel=1e-3)
    assert factor_noise(torch.full((3,), MEAN)).tolist() == [0.0, 0.0, 0.0]
    assert torch.isfinite(factor_noise(torch.tensor([0.0, 1.0 - 2**-24]))).all()
    many = factor_noise(torch.rand(200_000, generator=torch.Generator().manual_seed(0)))
    assert many.mean().item() == pytest.approx(0.0, abs=0.01)
    # E f(z)^2 = E |z| = sqrt(2 / pi).
    assert many.square().mean().item() == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)


def test_noisy_linear_by_hand() -> None:
    """x = (1, 2), one output; e_in = (2, -0.5), e_out = 1.5: 3 + 1 + 1.5 (0.1 * 2 * 1 + 0.2 * -0.5 * 2 + 0.5)."""
    layer = NoisyLinear(2, 1, 0.5)
    with torch.no_grad():
        layer.mean.weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.mean.bias.fill_(1.0)
        layer.weight_sigma.copy_(torch.tensor([[0.1, 0.2]]))
        layer.bias_sigma.fill_(0.5)
    x = torch.tensor([1.0, 2.0])
    assert layer(x, torch.tensor([2.0, -0.5, 1.5])).item() == pytest.approx(4.75)
    assert layer(x, torch.zeros(3)).item() == 4.0


def test_it_is_a_linear_layer_with_noisy_weights() -> None:
    """mu + sigma e_out e_in^T, one for each row or one for all."""
    torch.manual_seed(0)
    layer = NoisyLinear(5, 3, 0.5)
    x, e = torch.randn(4, 5), torch.randn(4, 8)
    made = layer(x, e)
    for row in range(4):
        weight = layer.mean.weight + layer.weight_sigma * torch.outer(e[row, 5:], e[row, :5])
        expected = weight @ x[row] + layer.mean.bias + layer.bias_sigma * e[row, 5:]
        assert torch.allclose(made[row], expected, atol=1e-6)
    shared = layer(x, e[:1])
    assert torch.allclose(shared, layer(x, e[:1].expand(4, 8)), atol=1e-6)
    assert not torch.allclose(shared[1:], made[1:])


def test_initialisation_is_the_published_one() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(400, 300, 0.5)
    bound = 1 / math.sqrt(400)
    for mean in (layer.mean.weight, layer.mean.bias):
        assert mean.abs().max() <= bound
        assert mean.abs().max() > 0.95 * bound
        assert mean.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    for sigma in (layer.weight_sigma, layer.bias_sigma):
        assert torch.equal(sigma, torch.full_like(sigma, 0.5 * bound))


def test_gradients_reach_means_and_deviations() -> None:
    layer = NoisyStream(3, 4, 2, 0.5)
    layer(torch.ones(2, 3), torch.randn(2, layer.noise)).sum().backward()
    assert layer.noise == (3 + 4) + (4 + 2)
    gradients = [p.grad for p in layer.parameters()]
    assert len(gradients) == 8
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("hidden", [0, 6])
def test_a_stream_without_noise_is_the_ordinary_one(hidden: int) -> None:
    torch.manual_seed(0)
    ordinary = stream(5, hidden, 3)
    torch.manual_seed(0)
    mine = NoisyStream(5, hidden, 3, None)
    assert mine.noise == 0
    x = torch.randn(4, 5)
    assert torch.equal(mine(x, x[:, :0]), ordinary(x))


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("dueling", [False, True])
def test_rainbow_head_without_its_parts_is_the_parent(hidden: int, dueling: bool) -> None:
    torch.manual_seed(0)
    parent = (DuelingQ if dueling else PlainQ)(5, 3, hidden)
    torch.manual_seed(0)
    mine = RainbowQ(5, 3, hidden, dueling, Scalar(), None)
    x = torch.randn(2, 4, 5)
    outputs = mine(x, x[..., :0])
    assert torch.equal(outputs, parent(x, x[..., :0]))
    assert mine.q(outputs) is outputs


def test_streams_are_joined_per_atom_before_the_softmax() -> None:
    """V = (1, 0), A_0 = (2, 0), A_1 = (0, 4): logits (2, -2) and (0, 2); atoms -1 and 3."""
    head = RainbowQ(1, 2, 0, True, Atoms(atoms(-1.0, 3.0, 2)), None)
    assert head.value is not None
    with torch.no_grad():
        for part, bias in ((head.value, [1.0, 0.0]), (head.advantage, [2.0, 0.0, 0.0, 4.0])):
            part.layers[0].weight.zero_()  # type: ignore[union-attr, operator]
            part.layers[0].bias.copy_(torch.tensor(bias))  # type: ignore[union-attr, operator]
    outputs = head(torch.zeros(3, 1), torch.zeros(3, 0))
    assert outputs[1].tolist() == [[2.0, -2.0], [0.0, 2.0]]
    high = [1 / (1 + math.exp(4)), 1 / (1 + math.exp(-2))]
    assert head.q(outputs)[1].tolist() == pytest.approx([-1 + 4 * p for p in high])


def test_rainbow_head_spends_each_number_of_its_noise_once() -> None:
    torch.manual_seed(0)
    head = RainbowQ(4, 2, 3, True, Atoms(atoms(-1.0, 1.0, 5)), 0.5)
    assert head.noise == (4 + 3) + (3 + 5) + (4 + 3) + (3 + 10)
    x, u = torch.ones(1, 4), torch.full((1, head.noise), 0.7)
    before = head(x, u)
    dead = 0
    for i in range(head.noise):
        changed = u.clone()
        changed[0, i] = 0.2
        dead += torch.equal(head(x, changed), before)
    assert dead <= 8  # inputs of the second layers whose ReLU is closed, and their outputs in the first
    mean = RainbowQ(4, 2, 3, True, Atoms(atoms(-1.0, 1.0, 5)), None)
    for mine, theirs in ((mean.value, head.value), (mean.advantage, head.advantage)):
        assert mine is not None
        assert theirs is not None
        for plain, noisy in zip(mine.layers, theirs.layers, strict=True):
            assert isinstance(noisy, NoisyLinear)
            plain.load_state_dict(noisy.mean.state_dict())
    assert torch.allclose(head(x, torch.full((1, head.noise), MEAN)), mean(x, x[:, :0]), atol=1e-6)


class Sum(QHead):
    """Two actions: the sum of the features, and twice that."""

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        total = x.sum(-1, keepdim=True)
        return torch.cat([total, 2 * total], -1)


def implicit(**changes: Any) -> ImplicitQuantiles:
    return ImplicitQuantiles(
        Sum(Scalar()), **{"inputs": 2, "cosines": 3, "levels": 2, "targets": 2, "acting": 4, **changes}
    )


def test_quantiles_by_hand() -> None:
    """cos(0), cos(pi tau), cos(2 pi tau) at tau = 1/4: 1, sqrt(1/2), 0; at 1/2: 1, 0, -1."""
    head = implicit()
    with torch.no_grad():
        head.embed.weight.copy_(torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 1.0]]))
        head.embed.bias.copy_(torch.tensor([0.5, 0.25]))
    x, u = torch.tensor([[10.0, 100.0]]), torch.tensor([[0.25, 0.5]])
    quarter = 10 * (1 + 2 * math.sqrt(0.5) + 0.5) + 100 * 0.25
    half = 10 * 0.0 + 100 * 0.0  # 1 - 4 + 0.5 and -1 + 0.25 are negative: ReLU
    outputs = head(x, u)
    assert outputs[0].tolist() == [
        [0.25, 0.5],
        pytest.approx([quarter, half], rel=1e-5, abs=1e-3),
        pytest.approx([2 * quarter, 2 * half], rel=1e-5, abs=1e-3),
    ]
    assert head.q(outputs)[0].tolist() == pytest.approx([quarter / 2, quarter])
    assert head.noise == 4


def test_quantiles_are_the_slow_ones_at_any_number_of_levels() -> None:
    torch.manual_seed(0)
    body = DuelingQ(5, 3, 6)
    head = ImplicitQuantiles(body, inputs=5, cosines=7, levels=2, targets=2, acting=4)
    x, u = torch.randn(2, 3, 5), torch.rand(2, 3, 9)
    outputs = head(x, u)
    assert outputs.shape == (2, 3, 1 + 3, 9)
    assert torch.equal(outputs[..., 0, :], u)
    for t in range(2):
        for b in range(3):
            for m in range(9):
                cosines = torch.tensor([math.cos(math.pi * i * float(u[t, b, m])) for i in range(7)])
                embedded = torch.relu(head.embed.weight @ cosines + head.embed.bias)
                expected = body((x[t, b] * embedded)[None], x[:1, 0, :0])[0]
                assert torch.allclose(outputs[t, b, 1:, m], expected, atol=1e-5)


def test_the_body_of_a_quantile_head_has_no_noise() -> None:
    with pytest.raises(ValueError, match="must need no noise"):
        ImplicitQuantiles(RainbowQ(2, 2, 0, False, Scalar(), 0.5), inputs=2, cosines=3, levels=2, targets=2, acting=4)


def test_supports_and_cosines_are_no_parameters() -> None:
    heads: list[nn.Module] = [RainbowQ(2, 2, 0, False, Atoms(atoms(-1.0, 1.0, 3)), None), implicit()]
    names = [name for head in heads for name in head.state_dict()]
    assert names
    assert not any("support" in name or "frequencies" in name for name in names)
    assert [name for name, _ in heads[0].named_buffers()] == ["values.support"]
    assert [name for name, _ in heads[1].named_buffers()] == ["frequencies"]
