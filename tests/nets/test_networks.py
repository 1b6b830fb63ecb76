"""Encoders, decoders, heads, actions and the optimiser."""

import copy
import math
from typing import Literal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from reverie.nets.actions import ContinuousActions, DiscreteActions, make_actions
from reverie.nets.decoders import Decoder, ImageDecoder, UpConv
from reverie.nets.encoders import Encoder, EncoderConfig, ImageEncoder, pixels
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import MLP, ChannelNorm, glorot_
from reverie.nets.optim import OptimConfig, Optimiser, clip_by_norm_

Moments = dict[str, dict[str, torch.Tensor]]

SMALL = EncoderConfig(depth=2, layers=1, units=8)


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def test_paper_sizes() -> None:
    """64x64: 2*2*8*48 = 1536 features; parameters of encoder and decoder as the facts of the paper's code give them."""
    encoder = ImageEncoder((64, 64, 1), EncoderConfig())
    assert encoder.outputs == 1536
    assert (
        sum(p.numel() for p in encoder.parameters()) == 16 * (48 + 48 * 96 + 96 * 192 + 192 * 384) + 48 + 96 + 192 + 384
    )
    decoder = ImageDecoder(1624, (64, 64, 1), EncoderConfig())
    kernels = 25 * 1536 * 192 + 25 * 192 * 96 + 36 * 96 * 48 + 36 * 48
    assert sum(p.numel() for p in decoder.parameters()) == 1625 * 1536 + kernels + 192 + 96 + 48 + 1


@pytest.mark.parametrize(
    "shape", [(64, 64, 3), (32, 32, 1), (84, 84, 1), (96, 96, 3), (10, 10, 1), (40, 64, 3), (5, 4, 2)]
)
def test_any_image_size_comes_back(shape: tuple[int, int, int]) -> None:
    space = {"image": image(*shape)}
    encoder, decoder = Encoder(space, SMALL), Decoder(11, space, SMALL)
    obs = {"image": torch.randint(0, 256, (3, 2, *shape), dtype=torch.uint8)}
    assert encoder(obs).shape == (3, 2, encoder.outputs)
    assert decoder(torch.randn(3, 2, 11))["image"].shape == (3, 2, shape[2], *shape[:2])


@pytest.mark.parametrize("kernel", [4, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (3, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("padding", [0, 1])
def test_fast_transposed_convolution_equals_the_general_one(
    kernel: int, size: tuple[int, int], layout: torch.memory_format, padding: int
) -> None:
    torch.manual_seed(0)
    fast = UpConv(5, 3, kernel, 2, padding=padding).to(memory_format=layout)
    slow = nn.ConvTranspose2d(5, 3, kernel, 2, padding=padding)
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(2, 5, *size)
    target = torch.randn_like(slow(x))
    results = []
    for layer in (fast, slow):
        inputs = x.clone().to(memory_format=layout).requires_grad_()
        y = layer(inputs)
        ((y - target) ** 2).sum().backward()
        results.append([y, inputs.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("shape", [(32, 32, 1), (84, 84, 1), (10, 10, 1), (41, 67, 1)])
def test_every_pixel_is_seen_and_can_be_drawn(shape: tuple[int, int, int]) -> None:
    """Also the last rows and columns of sizes that halve unevenly."""
    torch.manual_seed(0)
    height, width, _ = shape
    encoder, decoder = ImageEncoder(shape, SMALL), ImageDecoder(6, shape, SMALL)
    base = torch.full((1, *shape), 128, dtype=torch.uint8)
    for y, x in ((0, 0), (height - 1, width - 1), (height - 1, 0), (0, width - 1)):
        spot = base.clone()
        spot[0, y, x] = 255
        assert not torch.allclose(encoder(pixels(spot)), encoder(pixels(base)), atol=1e-6)
    drawn = decoder(torch.randn(8, 6))
    assert (drawn.std(0) > 1e-6).all()


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="both sides >= 4, got 3x9"):
        Encoder({"image": image(3, 9, 1)}, SMALL)


def test_channel_norm_by_hand() -> None:
    """Two channels 1 and 3 at one pixel: mean 2, variance 1 -> -1 and 1, up to eps 1e-3."""
    x = torch.zeros(1, 2, 2, 2)
    x[0, :, 1, 0] = torch.tensor([1.0, 3.0])
    y = ChannelNorm(2)(x)
    assert y[0, :, 1, 0].tolist() == pytest.approx([-1 / math.sqrt(1.001), 1 / math.sqrt(1.001)])
    assert not y[0, :, 0].any()


def test_norm_reaches_the_convolutions() -> None:
    config = EncoderConfig(depth=2, layers=1, units=8, norm=True)
    space = {"image": image(64, 64, 3)}
    encoder, decoder = Encoder(space, config), Decoder(11, space, config)
    assert sum(isinstance(m, ChannelNorm) for m in encoder.modules()) == 4
    assert sum(isinstance(m, ChannelNorm) for m in decoder.modules()) == 3
    obs = {"image": torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)}
    assert decoder(torch.randn(2, 11))["image"].shape == (2, 3, 64, 64)
    assert encoder(obs).shape == (2, encoder.outputs)


def test_pixels_range_and_layout() -> None:
    x = torch.zeros(2, 5, 4, 3, dtype=torch.uint8)
    x[0, 1, 2, 0] = 255
    y = pixels(x)
    assert y.shape == (2, 3, 5, 4)
    assert y[0, 0, 1, 2].item() == pytest.approx(0.5)
    assert y[1].max().item() == pytest.approx(-0.5)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_mixed_observations_use_every_key() -> None:
    space = {
        "image": image(16, 16, 1),
        "vector": spaces.Box(-1, 1, (3,), np.float32),
        "index": spaces.Discrete(4),
        "multi": spaces.MultiDiscrete([2, 3]),
    }
    encoder, decoder = Encoder(space, SMALL), Decoder(5, space, SMALL)
    obs = {
        "image": torch.zeros(2, 16, 16, 1, dtype=torch.uint8),
        "vector": torch.zeros(2, 3),
        "index": torch.tensor([1, 2]),
        "multi": torch.tensor([[0, 2], [1, 0]]),
    }
    base = encoder(obs)
    for key, value in (("image", obs["image"] + 90), ("vector", obs["vector"] + 1), ("index", obs["index"] - 1)):
        assert not torch.allclose(encoder(obs | {key: value}), base)
    means = decoder(torch.randn(2, 5))
    assert {k: tuple(v.shape[1:]) for k, v in means.items()} == {
        "image": (1, 16, 16),
        "vector": (3,),
        "index": (4,),
        "multi": (5,),
    }


def test_glorot_bounds_and_zero_biases() -> None:
    mlp = MLP(30, 2, 50)
    glorot_(mlp)
    assert mlp.layers[0].weight.abs().max() <= math.sqrt(6 / 80)
    assert mlp.layers[0].weight.std().item() == pytest.approx(math.sqrt(2 / 80), rel=0.1)
    assert not any(layer.bias.any() for layer in mlp.layers)


def test_scalar_head_has_no_last_axis() -> None:
    assert Head(4, None, HeadConfig(1, 8))(torch.randn(3, 2, 4)).shape == (3, 2)
    assert Head(4, 5, HeadConfig(0, 8))(torch.randn(3, 2, 4)).shape == (3, 2, 5)


def test_discrete_actions_by_hand() -> None:
    actions = make_actions(spaces.Discrete(3))
    assert isinstance(actions, DiscreteActions)
    x = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))
    assert actions.decode(actions.sample(x, torch.tensor([[0.19]]))).tolist() == [0]
    assert actions.decode(actions.sample(x, torch.tensor([[0.21]]))).tolist() == [1]
    assert actions.decode(actions.sample(x, torch.tensor([[0.71]]))).tolist() == [2]
    assert actions.decode(actions.mode(x)).tolist() == [1]
    assert actions.log_prob(x, actions.encode(torch.tensor([2]))).item() == pytest.approx(math.log(0.3), abs=1e-6)
    assert actions.entropy(x).item() == pytest.approx(-sum(p * math.log(p) for p in (0.2, 0.5, 0.3)), abs=1e-6)


def test_multidiscrete_factors_are_independent() -> None:
    actions = make_actions(spaces.MultiDiscrete([2, 3]))
    action = torch.tensor([[1, 2], [0, 1]])
    encoded = actions.encode(action)
    assert encoded.tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]
    assert torch.equal(actions.decode(encoded), action)
    x = torch.randn(2, 5)
    first, second = x.split([2, 3], -1)
    expected = first.log_softmax(-1)[[0, 1], [1, 0]] + second.log_softmax(-1)[[0, 1], [2, 1]]
    assert torch.allclose(actions.log_prob(x, encoded), expected, atol=1e-6)
    u = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    drawn = actions.decode(actions.uniform(u))
    assert drawn[:, 0].unique().tolist() == [0, 1]
    assert drawn[:, 1].unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["trunc_normal", "tanh_normal"])
def test_continuous_actions_stay_inside_and_carry_gradients(kind: str) -> None:
    actions = make_actions(spaces.Box(-1, 1, (2,), np.float32), continuous=kind)
    assert isinstance(actions, ContinuousActions)
    x = torch.randn(64, 4, requires_grad=True)
    sample = actions.sample(x, torch.rand(64, 2))
    assert sample.abs().max() < 1
    sample.sum().backward()
    assert (x.grad.abs().sum(0) > 0).all()
    assert torch.isfinite(actions.log_prob(x, sample.detach())).all()
    assert actions.entropy(x).shape == (64,)


def test_truncated_normal_std_by_hand() -> None:
    _, std = ContinuousActions(1)._stats(torch.tensor([[0.0, 0.0]]))
    assert std.item() == pytest.approx(1.1)


def test_tanh_normal_mean_and_std_by_hand() -> None:
    """Nothing is added to s: softplus(0) = log 2."""
    mean, std = ContinuousActions(2, "tanh_normal")._stats(torch.tensor([0.0, 10.0, 0.0, math.log(math.e - 1)]))
    assert mean.tolist() == pytest.approx([0.0, 5 * math.tanh(2.0)])
    assert std.tolist() == pytest.approx([math.log(2) + 0.1, 1.1])


def test_tanh_normal_entropy_is_that_of_the_action() -> None:
    """The mean of -log p over evenly spread samples; its gradient pushes a wide distribution to be narrower."""
    actions = ContinuousActions(1, "tanh_normal")
    u = ((torch.arange(20_000) + 0.5) / 20_000).unsqueeze(-1)
    for values in ([0.0, 0.0], [0.5, math.log(math.e - 1)], [-0.3, -1.0]):
        x = torch.tensor(values)
        sampled = -actions.log_prob(x.expand(20_000, 2), actions.sample(x.expand(20_000, 2), u)).mean()
        assert actions.entropy(x).item() == pytest.approx(sampled.item(), abs=1e-3)
    at_first, wider = (torch.tensor([0.0, s], requires_grad=True) for s in (0.0, math.log(math.e - 1)))
    (actions.entropy(at_first) + actions.entropy(wider)).backward()
    # d entropy / d std is 0.1696 at log 2 + 0.1 and -0.3469 at 1.1; d std / d s is sigmoid(s), 1/2 and 1 - 1/e.
    assert at_first.grad is not None
    assert wider.grad is not None
    assert at_first.grad.tolist() == pytest.approx([0.0, 0.1696 / 2], abs=1e-4)
    assert wider.grad.tolist() == pytest.approx([0.0, -0.3469 * (1 - 1 / math.e)], abs=1e-4)


def test_unknown_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="no policy for action space"):
        make_actions(spaces.Box(-1, 1, (2, 2), np.float32))


def test_optimiser_clips_shrinks_and_steps_by_hand() -> None:
    """Every weight is multiplied by 1 - shrink; then the first Adam step is lr * sign(gradient) (up to eps)."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimiser = Optimiser([weight], OptimConfig(lr=0.1, eps=1e-8, clip=1.0, shrink=0.01))
    weight.grad = torch.tensor([30.0, -40.0])
    assert optimiser.step().item() == pytest.approx(50.0)
    assert weight.tolist() == pytest.approx([0.99 - 0.1, -2 * 0.99 + 0.1], abs=1e-5)
    assert weight.grad is None


def test_a_rate_of_its_own_by_hand() -> None:
    """Adam's first step is the parameter's own rate; clip and shrink are shared: norm of (30, -40) and 120 is 130."""
    weight, scale = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([3.0]))
    config = OptimConfig(lr=0.1, lr_end=0.0, lr_over=2, eps=1e-8, clip=1.0, shrink=0.01)
    # The parameter with a rate comes first, so that the order of groups is not that of parameters.
    optimiser = Optimiser([scale, weight], config, {scale: 0.5})
    for step, lr in enumerate((0.1, 0.05)):
        before = [weight.detach().clone(), scale.detach().clone()]
        weight.grad, scale.grad = torch.tensor([30.0, -40.0]), torch.tensor([120.0])
        optimiser.schedule(step)
        assert optimiser.step().item() == pytest.approx(130.0)
        # Equal gradients: Adam's second step is as long as its first. The schedule is the network's alone.
        assert weight.tolist() == pytest.approx((0.99 * before[0] - lr * torch.tensor([1.0, -1.0])).tolist(), abs=1e-5)
        assert scale.item() == pytest.approx(0.99 * before[1].item() - 0.5, abs=1e-5)
    with pytest.raises(ValueError, match="does not have"):
        Optimiser([weight], config, {scale: 0.5})


def test_a_share_of_the_others_rate_by_hand() -> None:
    """Adam's steps are as long as rates: half of 0.1, then of 0.05."""
    weight, half = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([3.0]))
    config = OptimConfig(lr=0.1, lr_end=0.0, lr_over=2, eps=1e-8, clip=float("inf"), shrink=0.0)
    optimiser = Optimiser([half, weight], config, shares={half: 0.5})
    for step, (one, other) in enumerate([(0.9, 2.95), (0.85, 2.925)]):
        weight.grad, half.grad = torch.tensor([30.0]), torch.tensor([120.0])
        optimiser.schedule(step)
        optimiser.step()
        assert weight.item() == pytest.approx(one)
        assert half.item() == pytest.approx(other)
    with pytest.raises(ValueError, match="does not have"):
        Optimiser([weight], config, shares={half: 0.5})
    with pytest.raises(ValueError, match="rate of its own and a share"):
        Optimiser([weight], config, {weight: 0.1}, {weight: 0.5})


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_rates_leave_the_others_alone_and_are_not_in_the_state(kind: Literal["adam", "rmsprop"]) -> None:
    """States fit with and without rates, so that a checkpoint from before there was a rate still loads."""
    config = OptimConfig(kind=kind, lr=0.01)

    def run(own: bool, saved: Moments | None = None) -> tuple[list[nn.Parameter], Moments]:
        parameters = [nn.Parameter(torch.linspace(-1, 1, n)) for n in (5, 3, 2)]
        optimiser = Optimiser(parameters, config, {parameters[1]: 0.5} if own else None)
        names: dict[torch.Tensor, str] = dict(zip(parameters, "abc", strict=True))
        if saved is not None:
            optimiser.load_state_dict(saved, names)
        for i in range(4):
            for parameter in parameters:
                parameter.grad = torch.sin(torch.arange(float(len(parameter))) + i)
            optimiser.step()
        return parameters, copy.deepcopy(optimiser.state_dict(names))

    plain, old = run(False)
    own, new = run(True)
    assert torch.equal(plain[0], own[0])
    assert torch.equal(plain[2], own[2])
    assert (plain[1] - own[1]).abs().min() > 0.1
    assert list(old) == list(new) == ["a", "b", "c"]
    for name, moments in old.items():
        assert moments.keys() == new[name].keys()
        assert len(moments) > 1
        assert all(torch.equal(value, new[name][moment]) for moment, value in moments.items())
    again, _ = run(True, old)
    same, _ = run(True, new)
    assert all(torch.equal(a, b) for a, b in zip(again, same, strict=True))


def test_moments_are_saved_by_name_and_must_fit() -> None:
    """In whatever order parameters come; a missing parameter or one too many is refused by its name."""
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimiser = Optimiser([one, two], OptimConfig(shrink=0.0))
    assert optimiser.state_dict({one: "one", two: "two"}) == {"one": {}, "two": {}}
    one.grad, two.grad = torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0])
    optimiser.step()
    saved = copy.deepcopy(optimiser.state_dict({one: "one", two: "two"}))
    turned = Optimiser([two, one], OptimConfig(shrink=0.0))
    turned.load_state_dict(saved, {one: "one", two: "two"})
    for parameter, name in ((one, "one"), (two, "two")):
        assert torch.equal(turned.rule.state[parameter]["exp_avg"], saved[name]["exp_avg"])
    assert not torch.equal(saved["one"]["exp_avg"], saved["two"]["exp_avg"])
    with pytest.raises(KeyError, match=r"moments of \['two'\] are missing, those of \[\] are of no parameter here"):
        turned.load_state_dict({"one": saved["one"]}, {one: "one", two: "two"})
    with pytest.raises(KeyError, match=r"moments of \[\] are missing, those of \['three'\] are of no parameter here"):
        turned.load_state_dict({**saved, "three": {}}, {one: "one", two: "two"})


def test_optimiser_state_round_trip_is_exact() -> None:
    def train(weight: nn.Parameter, optimiser: Optimiser, steps: range) -> None:
        for i in steps:
            weight.grad = torch.sin(weight.detach() * (i + 1))
            optimiser.step()

    a = nn.Parameter(torch.linspace(-1, 1, 7))
    first = Optimiser([a], OptimConfig())
    train(a, first, range(5))
    b = nn.Parameter(a.detach().clone())
    second = Optimiser([b], OptimConfig())
    second.load_state_dict(copy.deepcopy(first.state_dict({a: "weight"})), {b: "weight"})
    train(a, first, range(5, 10))
    train(b, second, range(5, 10))
    assert torch.equal(a, b)


def test_standardised_images_by_hand() -> None:
    """Two pixels: one never changes (deviation floored at 0.1), one is 0 or 255 (mean 0, deviation 0.5)."""
    space = {"image": spaces.Box(0, 255, (4, 4, 1), np.uint8)}
    encoder = Encoder(space, EncoderConfig(depth=2, standardise=True))
    assert not Encoder(space, EncoderConfig(depth=2)).statistics
    images = torch.zeros(4, 4, 4, 1, dtype=torch.uint8)
    images[:, 0, 0, 0] = 51
    images[:2, 1, 1, 0] = 255
    prepared = encoder.prepare({"image": images})
    seen: list[torch.Tensor] = []
    encoder.cnns[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    before = encoder.encode(prepared)
    assert torch.equal(seen[-1], prepared["image"])  # mean 0 and deviation 1 before any batch
    encoder.adapt(prepared)
    after = encoder.encode(prepared)
    read = seen[-1]
    assert torch.allclose(read[:, 0, 0, 0], torch.zeros(4))
    assert torch.allclose(read[:, 0, 1, 1], torch.tensor([1.0, 1.0, -1.0, -1.0]))
    assert not torch.allclose(before, after)
    rare = images.clone()
    rare[:, 0, 0, 0] = 76
    encoder.encode(encoder.prepare({"image": rare}))
    assert torch.allclose(seen[-1][:, 0, 0, 0], torch.full((4,), 25 / 255 / 0.1))
    # What a decoder is compared with stays in [-0.5, 0.5].
    assert torch.equal(prepared["image"], encoder.prepare({"image": images})["image"])
    again = Encoder(space, EncoderConfig(depth=2, standardise=True))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.encode(prepared), after)


def test_normal_actions_are_bounded_for_the_environment_only() -> None:
    """DreamerV3's: mean tanh(m), std 0.9 sigmoid(s + 2) + 0.1, samples that may lie outside, and their densities."""
    actions = ContinuousActions(2, "normal")
    x = torch.tensor([[0.5, -2.0, 0.0, 1.0]])
    mean = torch.tensor([0.5, -2.0]).tanh()
    std = 0.9 * torch.tensor([2.0, 3.0]).sigmoid() + 0.1
    u = torch.tensor([[0.999, 0.001]])
    sample = actions.sample(x, u)
    normal = torch.distributions.Normal(mean, std)
    assert torch.allclose(sample[0], normal.icdf(u[0]), atol=1e-5)
    assert sample[0, 0] > 1
    assert sample[0, 1] < -1
    assert actions.decode(sample).tolist() == [[1.0, -1.0]]
    assert torch.allclose(actions.log_prob(x, sample), normal.log_prob(sample[0]).sum(), atol=1e-4)
    assert torch.allclose(actions.entropy(x), normal.entropy().sum(), atol=1e-5)
    assert torch.allclose(actions.mode(x)[0], mean)


@pytest.mark.parametrize("most", [0.5, 4.0, 1e9, float("inf")])
def test_clipping_is_torchs_to_the_bit(most: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (2, 2, 2)]
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for parameter in ours:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    theirs = copy.deepcopy(ours)
    for mine, other in zip(ours, theirs, strict=True):
        other.grad = mine.grad.clone()  # type: ignore[union-attr]
    norm = clip_by_norm_([p.grad for p in ours if p.grad is not None], most)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, most, foreach=True))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine.grad, other.grad)  # type: ignore[arg-type]


def test_a_norm_that_is_no_number_spoils_all_gradients_as_torchs_does() -> None:
    grads = [torch.tensor([1.0, float("nan")]), torch.tensor([2.0])]
    assert clip_by_norm_(grads, 1.0).isnan()
    assert grads[1].isnan().all()
