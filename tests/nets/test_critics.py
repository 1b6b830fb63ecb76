"""Critics: PopArt keeps every value through every change of its statistics, and learns all tasks at one scale."""

import copy
import math

import pytest
import torch
from torch import Tensor

from reverie.nets.critics import Critic, PopArt


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ALL = torch.ones(5, 4, dtype=torch.bool)


def test_a_plain_critic_is_a_line() -> None:
    critic, x, target = Critic(3), numbers(5, 4, 3), numbers(5, 4, seed=1)
    assert torch.equal(critic(x), critic.out(x)[..., 0])
    assert torch.allclose(critic.loss(x, target), 0.5 * (target - critic(x)) ** 2)
    before = copy.deepcopy(critic.state_dict())
    critic.adapt(target, ALL)
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    assert float(critic.scale()) == 1.0


def test_statistics_by_hand() -> None:
    """Targets 4 and 8 with a step of 0.5: two of them have the share 1 - 0.25 = 0.75."""
    critic = PopArt(1, step=0.5)
    with torch.no_grad():
        critic.out.weight.fill_(2.0)
        critic.out.bias.fill_(1.0)
    critic.adapt(torch.tensor([4.0, 8.0, 1e9]), torch.tensor([True, True, False]))
    mean, square = 0.75 * 6.0, 0.25 * 1.0 + 0.75 * (16 + 64) / 2
    assert critic.mean.item() == pytest.approx(mean)
    assert critic.square.item() == pytest.approx(square)
    sigma = math.sqrt(square - mean**2)
    assert float(critic.scale()) == pytest.approx(sigma)
    assert critic.out.weight.item() == pytest.approx(2.0 / sigma)
    assert critic.out.bias.item() == pytest.approx((1.0 + 0.0 - mean) / sigma)
    assert critic(torch.tensor([3.0])).item() == pytest.approx(7.0)  # as before: 2 * 3 + 1
    # Half the squared error of normalised numbers: (9 - mean) / sigma against (7 - mean) / sigma.
    assert critic.loss(torch.tensor([3.0]), torch.tensor(9.0)).item() == pytest.approx(0.5 * (2.0 / sigma) ** 2)


def test_one_step_is_the_share_of_one_target() -> None:
    critic = PopArt(1, step=3e-4)
    critic.adapt(torch.tensor([10.0]), torch.tensor([True]))
    assert critic.mean.item() == pytest.approx(3e-3)
    assert critic.square.item() == pytest.approx(1.0 + 3e-4 * 99.0)


@pytest.mark.parametrize("tasks", [1, 3])
def test_values_stay_whatever_targets_come(tasks: int) -> None:
    """Over a hundred changes, of five orders of magnitude, up and down."""
    torch.manual_seed(0)
    critic, x = PopArt(6, tasks, step=0.01), numbers(5, 4, 6, seed=1)
    task = torch.randint(0, tasks, (5, 4), generator=torch.Generator().manual_seed(2))
    before = critic(x, task)
    sigmas = []
    for k in range(100):
        target = numbers(5, 4, seed=3 + k, scale=10.0 ** (k % 5 - 1)) + k
        critic.adapt(target, ALL, task)
        sigmas.append(critic.sigma().min().item())
        torch.testing.assert_close(critic(x, task), before, rtol=1e-4, atol=1e-4)
    assert max(sigmas) / min(sigmas) > 30


def test_without_the_rescaling_values_would_not_stay() -> None:
    """The negative control: the same statistics and the old weights."""
    critic, x = PopArt(6, step=0.01), numbers(5, 4, 6, seed=1)
    before, weights = critic(x), copy.deepcopy(critic.out.state_dict())
    critic.adapt(numbers(5, 4, scale=100.0) + 5, ALL)
    critic.out.load_state_dict(weights)
    assert (critic(x) - before).abs().max() > 1.0


def test_tasks_have_statistics_of_their_own() -> None:
    critic = PopArt(2, tasks=3, step=0.1)
    task = torch.tensor([[0, 1], [0, 1]])
    target = torch.tensor([[1.0, 100.0], [3.0, 300.0]])
    critic.adapt(target, torch.ones(2, 2, dtype=torch.bool), task)
    alone = [PopArt(2, step=0.1) for _ in range(2)]
    for k, one in enumerate(alone):
        one.adapt(target[:, k], torch.ones(2, dtype=torch.bool))
        assert critic.mean[k].item() == pytest.approx(one.mean.item())
        assert critic.square[k].item() == pytest.approx(one.square.item())
    assert (critic.mean[2].item(), critic.square[2].item()) == (0.0, 1.0)  # of which there was no target
    assert torch.allclose(critic.scale(task), torch.stack([critic.scale(torch.tensor(k)) for k in (0, 1)]).expand(2, 2))


def test_two_tasks_by_hand() -> None:
    """Targets 4 and 8 of task 1 with a step of 0.5, none of task 0: what it has stays to the last bit."""
    critic = PopArt(1, tasks=2, step=0.5)
    with torch.no_grad():
        critic.out.weight.copy_(torch.tensor([[3.0], [2.0]]))
        critic.out.bias.copy_(torch.tensor([-1.0, 1.0]))
    target, mask = torch.tensor([4.0, 1e9, 8.0]), torch.tensor([True, False, True])
    critic.adapt(target, mask, torch.tensor([1, 0, 1]))
    mean, square = 0.75 * 6.0, 0.25 * 1.0 + 0.75 * (16 + 64) / 2
    sigma = math.sqrt(square - mean**2)
    assert (critic.mean.tolist(), critic.square.tolist()) == ([0.0, pytest.approx(mean)], [1.0, pytest.approx(square)])
    assert critic.out.weight.tolist() == [[3.0], [pytest.approx(2.0 / sigma)]]
    assert critic.out.bias.tolist() == [-1.0, pytest.approx((1.0 - mean) / sigma)]
    x = torch.full((2, 1), 3.0)
    assert critic(x, torch.tensor([0, 1])).tolist() == [8.0, pytest.approx(7.0)]  # 3 * 3 - 1 and 2 * 3 + 1, as before
    assert critic.scale(torch.tensor([0, 1])).tolist() == [1.0, pytest.approx(sigma)]


def test_a_spread_far_smaller_than_the_mean_is_found() -> None:
    """A mean of a million and a deviation of one: float32 could not hold the difference of the squares."""
    critic = PopArt(1, step=0.5)
    for k in range(200):
        critic.adapt(1e6 + numbers(64, seed=k).double(), torch.ones(64, dtype=torch.bool))
    assert float(critic.scale()) == pytest.approx(1.0, rel=0.2)


def test_the_scale_has_bounds() -> None:
    critic = PopArt(1, step=1.0, low=0.5, high=2.0)
    for target, sigma in (([3.0, 3.0], 0.5), ([-100.0, 100.0], 2.0)):
        critic.adapt(torch.tensor(target), torch.ones(2, dtype=torch.bool))
        assert float(critic.scale()) == pytest.approx(sigma)


def test_a_batch_without_targets_changes_nothing() -> None:
    critic = PopArt(2)
    before = copy.deepcopy(critic.state_dict())
    critic.adapt(torch.full((3,), float("nan")), torch.zeros(3, dtype=torch.bool))
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())


def test_gradients_do_not_grow_with_the_targets() -> None:
    """Targets of 1 and of 1000 ask for updates of one size, once their statistics are known; without PopArt not."""
    sizes = {}
    for scale in (1.0, 1000.0):
        target = numbers(5, 4, scale=scale)
        for name, critic in (("popart", PopArt(3, step=0.5)), ("plain", Critic(3))):
            critic.adapt(target, ALL)
            critic.loss(numbers(5, 4, 3, seed=7), target).mean().backward()
            assert critic.out.weight.grad is not None
            sizes[name, scale] = critic.out.weight.grad.norm().item()
    assert sizes["popart", 1000.0] / sizes["popart", 1.0] < 5
    assert sizes["plain", 1000.0] / sizes["plain", 1.0] > 300


def test_bad_settings_are_refused() -> None:
    for settings in ({"step": 0.0}, {"step": 1.5}, {"low": 0.0}, {"low": 2.0, "high": 1.0}):
        with pytest.raises(ValueError, match="expected 0 < step <= 1"):
            PopArt(2, **settings)
