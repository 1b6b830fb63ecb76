"""Losses: shares of the KL gradient, thresholds, Huber and quantile losses by hand."""

import pytest
import torch
from torch import Tensor

from reverie.ops import distributions as D
from reverie.ops import losses as L

NAN = float("nan")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """[T, B, 4, 5] -> [T, B]."""
    return D.categorical_kl(p, q).sum(-1)


def pair() -> tuple[Tensor, Tensor]:
    post, prior = torch.randn(2, 3, 2, 4, 5, generator=seeded(), dtype=torch.float64)
    return post.requires_grad_(), prior.requires_grad_()


@pytest.mark.parametrize("balance", [0.0, 0.2, 0.8, 1.0])
def test_balance_is_the_priors_share_of_the_gradient(balance: float):
    post, prior = pair()
    on_post, on_prior = torch.autograd.grad(kl(post, prior).mean(), [post, prior])
    loss, value = L.balanced_kl(kl, (post,), (prior,), balance, 0.0)
    got_post, got_prior = torch.autograd.grad(loss, [post, prior])
    torch.testing.assert_close(got_post, (1 - balance) * on_post)
    torch.testing.assert_close(got_prior, balance * on_prior)
    torch.testing.assert_close(loss, kl(post, prior).mean())
    torch.testing.assert_close(value, loss.detach())
    assert not value.requires_grad


def test_each_half_moves_one_side_only():
    post, prior = pair()
    to_posterior, to_prior = L.kl_halves(kl, (post,), (prior,))
    assert to_posterior.shape == (3, 2)
    torch.testing.assert_close(to_posterior, to_prior)
    on_post, on_prior = torch.autograd.grad(to_posterior.sum(), [post, prior], allow_unused=True)
    assert on_post is not None
    assert on_prior is None
    on_post, on_prior = torch.autograd.grad(to_prior.sum(), [post, prior], allow_unused=True)
    assert on_post is None
    assert on_prior is not None


def test_without_balance_both_sides_get_the_whole_gradient():
    post, prior = pair()
    expected = torch.autograd.grad(kl(post, prior).mean(), [post, prior])
    loss, value = L.balanced_kl(kl, (post,), (prior,), None, 0.0)
    torch.testing.assert_close(torch.autograd.grad(loss, [post, prior]), expected)
    torch.testing.assert_close(value, kl(post, prior).mean().detach())
    assert not value.requires_grad


def by_rows(*values: float) -> tuple[Tensor, Tensor]:
    """Parameters whose divergence, `square`, is the given value in each row."""
    return torch.tensor(values).sqrt().requires_grad_(), torch.zeros(len(values), requires_grad=True)


def square(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).square()


@pytest.mark.parametrize("balance", [0.8, None])
@pytest.mark.parametrize(
    ("values", "free", "expected", "flat"),
    [
        ((0.5, 4.5), "mean", 2.5, (False, False)),
        ((0.5, 4.5), "each", (1 + 4.5) / 2, (True, False)),
        ((0.5, 1.1), "mean", 1.0, (True, True)),
        ((0.5, 1.1), "each", (1 + 1.1) / 2, (True, False)),
        ((0.5, 0.25), "each", 1.0, (True, True)),
    ],
)
def test_free_nats(values, free, expected, flat, balance):
    post, prior = by_rows(*values)
    loss, value = L.balanced_kl(square, (post,), (prior,), balance, 1.0, free)
    torch.testing.assert_close(loss.item(), expected)
    torch.testing.assert_close(value.item(), sum(values) / 2)
    for slope in torch.autograd.grad(loss, [post, prior]):
        assert tuple((slope == 0).tolist()) == flat


def test_parameters_by_name_in_any_order():
    mean_p, std_p, mean_q, std_q = torch.rand(4, 3, 2, 6, generator=seeded()) + 0.5

    def normal_kl(*params: Tensor) -> Tensor:
        return D.normal_kl(*params).sum(-1)

    expected, _ = L.balanced_kl(normal_kl, (mean_p, std_p), (mean_q, std_q), 0.8, 0.0)
    named, _ = L.balanced_kl(normal_kl, {"mean": mean_p, "std": std_p}, {"std": std_q, "mean": mean_q}, 0.8, 0.0)
    assert expected == named


def test_wrong_arguments_are_refused():
    x = torch.ones(2)
    with pytest.raises(ValueError, match="free must be"):
        L.balanced_kl(square, (x,), (x,), 0.8, 1.0, "batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same parameters"):
        L.balanced_kl(square, {"a": x}, {"b": x}, 0.8, 1.0)
    with pytest.raises(ValueError, match="both"):
        L.balanced_kl(square, {"a": x}, (x,), 0.8, 1.0)
    for loss in (L.td_squared, L.huber):
        with pytest.raises(ValueError, match="one shape"):
            loss(torch.ones(2, 1), x)
    with pytest.raises(ValueError, match="one shape"):
        L.masked_mean(torch.ones(2, 1), x.bool())
    with pytest.raises(ValueError, match="must agree"):
        L.quantile_huber(torch.ones(3, 2), torch.ones(3), torch.ones(3, 4))


def test_squared_and_huber_by_hand():
    prediction = torch.tensor([0.0, 1.0, 5.0, -3.0], requires_grad=True)
    target = torch.tensor([0.5, 1.0, 2.0, 1.0], requires_grad=True)
    torch.testing.assert_close(L.td_squared(prediction, target), torch.tensor([0.125, 0.0, 4.5, 8.0]))
    loss = L.huber(prediction, target)
    torch.testing.assert_close(loss, torch.tensor([0.125, 0.0, 2.5, 3.5]))
    assert torch.autograd.grad(loss.sum(), prediction)[0].tolist() == [-0.5, 0, 1, -1]
    torch.testing.assert_close(L.huber(prediction, target, 2.0), torch.tensor([0.125, 0.0, 4.0, 6.0]))
    assert torch.autograd.grad(L.td_squared(prediction, target).sum(), target, allow_unused=True) == (None,)


def test_quantile_huber_by_hand():
    quantiles, taus, targets = torch.tensor([0.0, 1.0]), torch.tensor([0.25, 0.75]), torch.tensor([0.5, -2.0])
    # errors of quantile 0: .5, -2; of quantile 1: -.5, -3
    first = (0.25 * 0.125 + 0.75 * 1.5) / 2
    second = (0.25 * 0.125 + 0.25 * 2.5) / 2
    torch.testing.assert_close(L.quantile_huber(quantiles, taus, targets).item(), first + second)
    # A small kappa is nearly the absolute error.
    absolute = (0.25 * 0.5 + 0.75 * 2.0) / 2 + (0.25 * 0.5 + 0.25 * 3.0) / 2
    torch.testing.assert_close(L.quantile_huber(quantiles, taus, targets, 1e-4).item(), absolute, atol=1e-3, rtol=0.0)


def test_quantile_huber_finds_the_quantiles():
    targets = torch.arange(1001.0) / 10  # uniform on [0, 100]
    taus = torch.tensor([0.1, 0.5, 0.9])
    quantiles = torch.full((3,), 50.0, requires_grad=True)
    optimiser = torch.optim.SGD([quantiles], lr=20.0)
    for _ in range(300):
        optimiser.zero_grad()
        L.quantile_huber(quantiles, taus, targets).backward()
        optimiser.step()
    torch.testing.assert_close(quantiles.detach(), torch.tensor([10.0, 50.0, 90.0]), atol=0.5, rtol=0.0)


def test_masked_mean_does_not_read_what_is_masked():
    x = torch.tensor([[1.0, NAN], [5.0, NAN]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    mean = L.masked_mean(x, mask)
    assert mean.item() == 3.0
    assert torch.autograd.grad(mean, x)[0].tolist() == [[0.5, 0], [0.5, 0]]
    assert L.masked_mean(x, ~mask & mask).item() == 0.0


def everything(post: Tensor, prior: Tensor) -> list[Tensor]:
    return [
        *L.balanced_kl(kl, (post,), (prior,), 0.8, 1.0),
        *L.balanced_kl(kl, {"logits": post}, {"logits": prior}, None, 1.0, "each"),
        L.huber(post, prior),
        L.td_squared(post, prior),
        L.quantile_huber(post, post[0, 0, 0], prior),
        L.masked_mean(post, prior > 0),
    ]


def test_half_precision_is_computed_in_float32():
    post, prior = pair()
    for value in everything(post.bfloat16(), prior.bfloat16()):
        assert value.dtype == torch.float32


def test_compiles_without_graph_breaks():
    post, prior = (x.detach() for x in pair())
    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    for fast, slow in zip(compiled(post, prior), everything(post, prior), strict=True):
        torch.testing.assert_close(fast, slow)
