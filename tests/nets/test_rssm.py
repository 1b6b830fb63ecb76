"""The RSSM: golden GRU step, resets inside the step, unroll = loop of step, both kinds of latents."""

import math

import pytest
import torch

from reverie.nets.latents import Categorical, Gaussian
from reverie.nets.layers import glorot_
from reverie.nets.rssm import RSSM, GRUCell, RSSMConfig


def build(latent: str = "categorical", norm: bool = False) -> RSSM:
    torch.manual_seed(0)
    rssm = RSSM(7, 3, RSSMConfig(deter=6, hidden=5, latent=latent, stoch=4, classes=3, norm=norm))
    glorot_(rssm)
    rssm.reset_parameters()
    return rssm


def rows(time: int = 9, batch: int = 3, first: float = 0.3) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    action = torch.randn(time, batch, 3, generator=g)
    is_first = torch.rand(time, batch, generator=g) < first
    embed = torch.randn(time, batch, 7, generator=g)
    u = torch.rand(time, batch, 4, generator=g)
    return action, is_first, embed, u


def test_gru_step_by_hand() -> None:
    """One unit, all weights zero but the biases, so that LayerNorm acts on three known numbers."""
    cell = GRUCell(1, 1)
    with torch.no_grad():
        cell.linear.weight.zero_()
        cell.linear.bias.copy_(torch.tensor([0.0, 3.0, -3.0]))
    # mean 0, variance 6; normalised by sqrt(6 + 1e-3): reset 0, candidate +c, update -c.
    c = 3 / math.sqrt(6 + 1e-3)
    candidate = math.tanh(0.5 * c)
    update = 1 / (1 + math.exp(-(-c - 1)))
    expected = update * candidate + (1 - update) * 0.25
    assert cell(torch.zeros(1, 1), torch.tensor([[0.25]])).item() == pytest.approx(expected, abs=1e-6)


def test_gru_resets_the_mixed_candidate_not_the_state() -> None:
    """With a closed reset gate the candidate is tanh(0) whatever the weights say: only the update gate moves h."""
    torch.manual_seed(0)
    cell = GRUCell(2, 4)
    with torch.no_grad():
        cell.norm.bias[:4] = -1e4  # reset gates closed
        cell.norm.weight[:4] = 0
        cell.norm.weight[8:] = 0
        cell.norm.bias[8:] = 1.0  # update = sigmoid(1 - 1) = 0.5
    h = torch.randn(3, 4)
    assert torch.allclose(cell(torch.randn(3, 2), h), 0.5 * h, atol=1e-6)


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
@pytest.mark.parametrize("norm", [False, True])
def test_observe_is_a_loop_of_observe_step(latent: str, norm: bool) -> None:
    rssm = build(latent, norm)
    action, is_first, embed, u = rows()
    states, stats, last = rssm.observe(rssm.initial_state(3), action, is_first, embed, u)
    state = rssm.initial_state(3)
    for t in range(len(action)):
        state, stat = rssm.observe_step(state, action[t], is_first[t], embed[t], u[t])
        for name in state:
            assert torch.allclose(state[name], states[name][t], atol=1e-6)
        for a, b in zip(stat, stats, strict=True):
            assert torch.allclose(a, b[t], atol=1e-6)
    assert all(torch.equal(last[name], states[name][-1]) for name in last)


def test_is_first_forgets_state_and_action() -> None:
    rssm = build()
    action, _, embed, u = rows()
    is_first = torch.zeros(9, 3, dtype=torch.bool)
    is_first[4, 1] = True
    poison = {name: torch.full_like(value, 1e3) for name, value in rssm.initial_state(3).items()}
    long, _, _ = rssm.observe(poison, action, is_first, embed, u)
    fresh = action[4:].clone()
    fresh[0] = 0.0
    short, _, _ = rssm.observe(rssm.initial_state(3), fresh, torch.zeros_like(is_first[4:]), embed[4:], u[4:])
    for name in long:
        assert torch.allclose(long[name][4:, 1], short[name][:, 1], atol=1e-6)
        assert not torch.allclose(long[name][4:, 0], short[name][:, 0], atol=1e-2)


def test_posterior_split_equals_one_layer_on_the_concatenation() -> None:
    rssm = build()
    deter, embed = torch.randn(5, 6), torch.randn(5, 7)
    weight = torch.cat([rssm.post_deter.weight, rssm.post_embed.weight], 1)
    hidden = torch.nn.functional.elu(torch.cat([deter, embed], 1) @ weight.T + rssm.post_deter.bias)
    (logits,) = rssm.posterior(deter, rssm.post_embed(embed))
    assert torch.allclose(logits.flatten(1), rssm.post_out(hidden), atol=1e-6)
    bound = math.sqrt(6 / (6 + 7 + 5))
    assert rssm.post_embed.weight.abs().max() <= bound
    assert rssm.post_embed.weight.abs().max() > 0.8 * bound


def test_imagination_follows_the_prior() -> None:
    rssm = build()
    state = {"deter": torch.randn(2, 6), "stoch": torch.randn(2, 12)}
    action, u = torch.randn(2, 3), torch.rand(2, 4)
    after = rssm.imagine_step(state, action, u)
    deter = rssm.advance(state, action)
    assert torch.equal(after["deter"], deter)
    assert torch.equal(after["stoch"], rssm.latent.sample(rssm.prior(deter), u))
    assert torch.equal(after["stoch"].view(2, 4, 3).sum(-1), torch.ones(2, 4))


def test_feature_puts_stochastic_first() -> None:
    rssm = build()
    feature = rssm.feature({"deter": torch.zeros(1, 6), "stoch": torch.ones(1, 12)})
    assert torch.equal(feature, torch.cat([torch.ones(1, 12), torch.zeros(1, 6)], 1))
    assert rssm.features == 18


def test_gaussian_std_is_sigmoid2() -> None:
    mean, std = Gaussian(1).stats(torch.tensor([[0.3, 0.0]]))
    assert mean.item() == pytest.approx(0.3)
    assert std.item() == pytest.approx(1.1)
    _, std = Gaussian(1).stats(torch.tensor([[0.0, 2.0]]))
    assert std.item() == pytest.approx(2 / (1 + math.exp(-1)) + 0.1)


def test_categorical_kl_sums_variables_by_hand() -> None:
    latent = Categorical(2, 2)
    p = latent.stats(torch.log(torch.tensor([[0.5, 0.5, 0.9, 0.1]])))
    q = latent.stats(torch.log(torch.tensor([[0.25, 0.75, 0.9, 0.1]])))
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert latent.kl(*p, *q).item() == pytest.approx(expected, abs=1e-6)
    assert latent.entropy(p).item() == pytest.approx(math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1), abs=1e-6)


def test_gradients_pass_through_time_and_stop_at_resets() -> None:
    rssm = build()
    action, _, embed, u = rows()
    embed.requires_grad_()
    is_first = torch.zeros(9, 3, dtype=torch.bool)
    is_first[5] = True
    states, _, _ = rssm.observe(rssm.initial_state(3), action, is_first, embed, u)
    states["deter"][8].sum().backward()
    reached = embed.grad.abs().sum((1, 2)) > 0
    assert reached[5:8].all()
    assert not reached[:5].any()
