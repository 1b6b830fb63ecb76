"""Networks of the value-based line: sizes of the convolutions, heads by hand, RMSProp by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.q_heads import DuelingQ, PlainQ, gather_actions
from reverie.nets.rmsprop import CentredRMSProp
from reverie.nets.torsos import NatureCNN, Torso, TorsoConfig, standardised


def test_nature_has_the_published_sizes() -> None:
    """84 -> 20 -> 9 -> 7 pixels, 3136 features; 77 984 weights and biases in three convolutions."""
    cnn = NatureCNN((84, 84, 4), (32, 64, 64))
    assert cnn.outputs == 7 * 7 * 64 == 3136
    assert cnn.pad == (0, 0)
    assert sum(p.numel() for p in cnn.parameters()) == 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64


@pytest.mark.parametrize(
    "shape", [(84, 84), (64, 64), (36, 36), (37, 90), (210, 160), (32, 32), (35, 100), (11, 11), (3, 5)]
)
def test_every_pixel_of_every_size_is_seen(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    cnn = NatureCNN((*shape, 1), (4, 4, 4))
    image = torch.randint(0, 256, (2, *shape, 1), dtype=torch.uint8)
    before = cnn(image)
    assert before.shape == (2, cnn.outputs)
    with torch.no_grad():
        for conv in cnn.convs:
            conv.bias.fill_(10.0)  # type: ignore[union-attr, operator]  # so that no ReLU hides a change
    before = cnn(image)
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        changed = image.clone()
        changed[:, y, x] = 255 - changed[:, y, x]
        assert not torch.equal(cnn(changed), before)


def test_pixels_count_as_fractions_of_255() -> None:
    cnn = NatureCNN((84, 84, 2), (2, 2, 2))
    image = torch.randint(0, 256, (3, 84, 84, 2), dtype=torch.uint8)
    x = image.permute(0, 3, 1, 2).float() / 255
    for conv in cnn.convs:
        x = torch.relu(conv(x))
    assert torch.allclose(cnn(image), x.permute(0, 2, 3, 1).flatten(1), atol=1e-6)


def test_torso_joins_images_vectors_and_indices() -> None:
    observation = {
        "image": spaces.Box(0, 255, (12, 12, 3), np.uint8),
        "vector": spaces.Box(-1, 1, (2, 2), np.float32),
        "index": spaces.Discrete(3),
    }
    torso = Torso(observation, TorsoConfig(channels=(2, 3, 4), layers=1, units=5), stack=2)
    assert torso.mlp is not None
    assert torso.mlp.layers[0].in_features == 7
    obs = {
        "image": torch.zeros(6, 4, 12, 12, 6, dtype=torch.uint8),
        "vector": torch.zeros(6, 4, 2, 2),
        "index": torch.ones(6, 4, dtype=torch.int64),
    }
    assert torso(obs).shape == (6, 4, torso.outputs) == (6, 4, 4 * 3 * 3 + 5)
    assert Torso(observation, TorsoConfig(dense=9)).outputs == 9


def test_standardised_pixels_by_hand() -> None:
    """Two stacked frames of 4 x 4 pixels, 102 and 255 of 255 after a batch of 51s and 153s: mean 0.4, deviation 0.2."""
    torso = Torso({"image": spaces.Box(0, 255, (4, 4, 1), np.uint8)}, TorsoConfig(standardise=True), stack=2)
    seen = torch.tensor([51, 153], dtype=torch.uint8).repeat_interleave(16).view(2, 4, 4, 1)
    seen[:, 0, 0] = 0  # a pixel that never changes: its deviation counts as 0.1
    torso.adapt({"image": seen})
    image = torch.stack([torch.full((1, 4, 4), 102), torch.full((1, 4, 4), 255)], -1).to(torch.uint8)
    x = standardised(image, torso.statistics[0])
    assert x.shape == (1, 4, 4, 2)
    assert torch.allclose(x[0, 1, 1], torch.tensor([0.0, 3.0]), atol=1e-5)
    assert torch.allclose(x[0, 0, 0], torch.tensor([4.0, 10.0]), atol=1e-5)


def test_standardised_entries_by_hand_and_through_the_networks() -> None:
    """Entries 1 and 5 have mean 3 and deviation 2; a masked one stays 0. Pixels go through the convolutions as such."""
    observation = {"image": spaces.Box(0, 255, (40, 40, 1), np.uint8), "vector": spaces.Box(-9, 9, (2,), np.float32)}
    torso = Torso(observation, TorsoConfig((2, 3, 4), layers=1, units=5, standardise=True))
    image = torch.randint(0, 256, (2, 40, 40, 1), dtype=torch.uint8)
    obs = {"image": image, "vector": torch.tensor([[1.0, 0.0], [5.0, 0.0]])}
    torso.adapt(obs)
    assert torso.mlp is not None
    x = standardised(image, torso.statistics[0]).permute(0, 3, 1, 2)
    x = torch.nn.functional.pad(x, (0, 4, 0, 4))
    for conv in torso.cnns[0].convs:  # type: ignore[union-attr]
        x = torch.relu(conv(x))
    by_hand = torch.cat([x.permute(0, 2, 3, 1).flatten(1), torso.mlp(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))], 1)
    assert torch.allclose(torso(obs), by_hand, atol=1e-5)
    plain = Torso(observation, TorsoConfig((2, 3, 4), layers=1, units=5))
    plain.adapt(obs)
    assert not plain.statistics
    assert not any("statistics" in name for name in plain.state_dict())


def test_dueling_subtracts_the_mean_advantage() -> None:
    head = DuelingQ(1, 3, 0)
    with torch.no_grad():
        head.value[0].weight.fill_(2.0)
        head.value[0].bias.fill_(1.0)
        head.advantage[0].weight.copy_(torch.tensor([[1.0], [2.0], [6.0]]))
        head.advantage[0].bias.zero_()
    # V = 2 * 10 + 1 = 21; A = 10, 20, 60 with mean 30.
    assert head(torch.tensor([[10.0]]), torch.zeros(1, 0)).tolist() == [[1.0, 11.0, 51.0]]


def test_heads_without_a_hidden_layer_are_linear() -> None:
    assert [tuple(p.shape) for p in PlainQ(5, 3, 0).parameters()] == [(3, 5), (3,)]
    assert [tuple(p.shape) for p in PlainQ(5, 3, 7).parameters()] == [(7, 5), (7,), (3, 7), (3,)]


def test_gather_actions() -> None:
    outputs = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    action = torch.tensor([[0, 3, 1], [2, 2, 0]])
    picked = gather_actions(outputs, action)
    for t in range(2):
        for b in range(3):
            assert torch.equal(picked[t, b], outputs[t, b, action[t, b]])
    assert torch.equal(gather_actions(outputs[..., 0], action), picked[..., 0])


def test_rmsprop_by_hand() -> None:
    """Two updates of one weight with gradients 1 and 3: epsilon is inside the root, and the mean is subtracted."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser([weight], OptimConfig(kind="rmsprop", lr=0.1, eps=0.01, clip=float("inf"), shrink=0.0))
    mean = square = 0.0
    expected = 1.0
    for gradient in (1.0, 3.0):
        weight.grad = torch.tensor([gradient])
        assert float(optimiser.step()) == gradient
        mean = 0.95 * mean + 0.05 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        expected -= 0.1 * gradient / math.sqrt(square - mean**2 + 0.01)
        assert weight.item() == pytest.approx(expected, rel=1e-6)
        assert weight.grad is None


def test_rmsprop_goes_on_where_it_was_saved() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 4), torch.randn(4, 3, 4)
    config = OptimConfig(kind="rmsprop", lr=0.1, eps=0.01, shrink=0.0)
    whole = torch.nn.Parameter(start.clone())
    optimiser = Optimiser([whole], config)
    for gradient in gradients[:2]:
        whole.grad = gradient.clone()
        optimiser.step()
    other = torch.nn.Parameter(whole.detach().clone())
    again = Optimiser([other], config)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict({whole: "weight"})), {other: "weight"})
    for gradient in gradients[2:]:
        for parameter, rule in ((whole, optimiser), (other, again)):
            parameter.grad = gradient.clone()
            rule.step()
    assert torch.equal(whole, other)


def test_rmsprop_reads_a_learning_rate_from_memory() -> None:
    """As a recorded step does: the same weights as with a number, and a new rate where the memory is written."""
    ends = []
    for rate in (0.1, torch.tensor(0.1)):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        rule = CentredRMSProp([weight], lr=rate)
        for gradient in ((1.0, 2.0), (3.0, -1.0)):
            weight.grad = torch.tensor(gradient)
            rule.step()
        ends.append(weight.detach().clone())
    assert torch.allclose(*ends, rtol=1e-6)
    rate.zero_()
    weight.grad = torch.ones(2)
    rule.step()
    assert torch.equal(weight, ends[1])


def test_rmsprop_bears_steady_gradients() -> None:
    """The square minus the squared mean of what never changes is rounding, which may be below zero by more than eps."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(2000))
    rule, gradient = CentredRMSProp([weight], lr=1e-6, eps=1e-7), 3.0 + torch.rand(2000)
    for _ in range(400):
        weight.grad = gradient.clone()
        rule.step()
    state = rule.state[weight]
    assert float((state["square"] - state["mean"] ** 2).min()) < -1e-7
    assert torch.isfinite(weight).all()


def test_the_learning_rate_falls_and_goes_on_where_it_was_saved() -> None:
    config = OptimConfig(kind="rmsprop", lr=1.0, lr_end=0.2, lr_over=4, eps=1.0, clip=float("inf"), shrink=0.0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = Optimiser([parameter], config)
    rates = []
    for step in range(7):
        if step == 3:
            saved = copy.deepcopy(optimiser.state_dict({parameter: "weight"}))
            optimiser = Optimiser([parameter], config)
            optimiser.load_state_dict(saved, {parameter: "weight"})
        rates.append(optimiser.rate(step))
        parameter.grad = torch.ones(1)
        before = parameter.item()
        optimiser.schedule(step)
        optimiser.step()
        state = optimiser.rule.state[parameter]
        moved = rates[-1] / math.sqrt(float(state["square"] - state["mean"] ** 2) + 1.0)
        assert before - parameter.item() == pytest.approx(moved, rel=1e-5)
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_the_scale_of_a_loss_and_epsilon_cancel() -> None:
    """Gradients / 32 with epsilon / 32^2 make the same step: a mean over 32 for the paper's sum."""
    steps = []
    for scale in (1.0, 1 / 32):
        weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        config = OptimConfig(kind="rmsprop", lr=0.1, eps=0.01 * scale**2, clip=float("inf"), shrink=0.0)
        optimiser = Optimiser([weight], config)
        for gradient in ((1.0, -2.0), (0.5, 3.0)):
            weight.grad = torch.tensor(gradient, dtype=torch.float64) * scale
            optimiser.step()
        steps.append(weight.detach())
    assert torch.allclose(steps[0], steps[1])
