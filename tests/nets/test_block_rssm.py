"""DreamerV3's memories: block-diagonal layers against dense ones with zeros, one step by hand, the learned start."""

import torch
from torch.nn import functional as F

from reverie.nets.block_rssm import BlockGRU, BlockRSSM, BlockRSSMConfig
from reverie.nets.latents import Categorical
from reverie.nets.layers import BlockLinear
from reverie.nets.learned_start import LearnedStartRSSM, bounded
from reverie.nets.rssm import RSSMConfig
from reverie.nets.state_space import OneChain


def dense(layer: BlockLinear) -> torch.Tensor:
    """The matrix [outputs, inputs] with zeros that a block-diagonal layer is."""
    return torch.block_diag(*[block.T for block in layer.weight])


def test_a_block_layer_is_a_dense_layer_with_zeros() -> None:
    torch.manual_seed(0)
    layer = BlockLinear(6, 4, 2)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(3, 5, 6)
    matrix = dense(layer)
    assert not matrix[:2, 3:].any()
    assert not matrix[2:, :3].any()
    assert torch.allclose(layer(x), F.linear(x, matrix, layer.bias), atol=1e-6)


def test_its_first_weights_have_the_variance_of_the_dense_layer() -> None:
    """One over all inputs, not over those of a block. Source: DreamerV3's code."""
    torch.manual_seed(0)
    layer = BlockLinear(800, 1600, 8)
    assert abs(layer.weight.std().item() * 800**0.5 - 1) < 0.02
    assert not layer.bias.any()


def test_a_step_of_the_block_gru_is_dense_matrices_with_zeros() -> None:
    """Every block mixes its share of h with all of x; gates are those of DreamerV2's cell, block by block."""
    torch.manual_seed(0)
    deter, inputs, blocks = 6, 3, 2
    cell = BlockGRU(deter, inputs, blocks)
    torch.nn.init.normal_(cell.norm.weight)
    torch.nn.init.normal_(cell.mix.bias)
    h, x = torch.randn(4, deter), torch.randn(4, inputs)
    mixed = torch.cat([h[:, :3], x, h[:, 3:], x], -1) @ dense(cell.mix).T + cell.mix.bias
    y = mixed / (mixed.square().mean(-1, keepdim=True) + 1e-4).sqrt() * cell.norm.weight
    gates = (y * torch.sigmoid(y)) @ dense(cell.gates).T + cell.gates.bias
    out = []
    for k in range(blocks):
        r, c, u = gates[:, 9 * k : 9 * k + 9].chunk(3, -1)
        u = torch.sigmoid(u - 1)
        out.append(u * torch.tanh(torch.sigmoid(r) * c) + (1 - u) * h[:, 3 * k : 3 * k + 3])
    assert torch.allclose(cell(h, x), torch.cat(out, -1), atol=1e-6)


def memory() -> BlockRSSM:
    torch.manual_seed(0)
    return BlockRSSM(5, 2, BlockRSSMConfig(deter=8, hidden=4, stoch=3, classes=4, blocks=4))


def test_the_posterior_is_one_layer_on_state_and_embedding() -> None:
    rssm = memory()
    deter, embed = torch.randn(7, 8), torch.randn(7, 5)
    x = rssm.post_norm(rssm.post_hidden(torch.cat([deter, embed], -1)))
    logits = rssm.post_out(F.silu(x)).view(7, 3, 4)
    mixed = (0.99 * logits.softmax(-1) + 0.01 / 4).log()
    (posterior,) = rssm.posterior(deter, rssm.embedded(embed))
    assert torch.allclose(posterior, mixed, atol=1e-5)
    state = {"deter": deter, "stoch": torch.randn(7, 12)}
    assert torch.equal(rssm.feature(state), torch.cat([deter, state["stoch"]], -1))


def test_actions_are_bounded_and_keep_their_gradient() -> None:
    action = torch.tensor([0.5, -3.0, 2.0], requires_grad=True)
    out = bounded(action)
    assert out.tolist() == [0.5, -1.0, 1.0]
    out.sum().backward()
    assert torch.allclose(action.grad, torch.tensor([1.0, 1 / 3, 0.5]))
    far, near, other = (torch.tensor([[x, 0.3]]) for x in (7.0, 1.0, 0.9))
    for rssm in (memory(), learned()):
        state = rssm.initial_state(1)
        assert torch.equal(rssm.advance(state, far), rssm.advance(state, near))
        assert not torch.equal(rssm.advance(state, other), rssm.advance(state, near))


def learned() -> LearnedStartRSSM:
    torch.manual_seed(0)
    config = RSSMConfig(deter=6, hidden=4, stoch=3, classes=4, unimix=0.01, act="silu", norm="layer")
    rssm = LearnedStartRSSM(5, 2, config)
    torch.nn.init.normal_(rssm.start)
    return rssm


def test_episodes_begin_from_the_learned_state() -> None:
    """h = tanh(w), z = the prior's likeliest there; what came before, the action included, does not matter."""
    rssm = learned()
    deter = torch.tanh(rssm.start).unsqueeze(0)
    stoch = Categorical(3, 4).mode(rssm.prior(deter))
    embed, u = torch.randn(2, 5), torch.rand(2, 3)
    state = {"deter": torch.randn(2, 6), "stoch": torch.randn(2, 12)}
    action = torch.randn(2, 2)
    first = torch.tensor([True, False])
    after, _ = rssm.observe_step(state, action, first, embed, u)
    begun = rssm.advance({"deter": deter, "stoch": stoch}, torch.zeros(1, 2))
    assert torch.allclose(after["deter"][0], begun[0], atol=1e-6)
    went_on = rssm.advance({name: value[1:] for name, value in state.items()}, action[1:])
    assert torch.allclose(after["deter"][1], went_on[0], atol=1e-6)
    rssm.zero_grad()
    after["deter"][0].sum().backward()
    assert rssm.start.grad is not None
    assert rssm.start.grad.any()


def check_unroll(rssm: OneChain) -> None:
    """`observe` is a loop of `observe_step`, with starts in the middle."""
    time, width = 5, 3
    embed, action, u = torch.randn(time, width, 5), torch.randn(time, width, 2), torch.rand(time, width, 3)
    first = torch.rand(time, width) < 0.4
    states, (logits,), last = rssm.observe(rssm.initial_state(width), action, first, embed, u)
    state = rssm.initial_state(width)
    for t in range(time):
        state, (logit,) = rssm.observe_step(state, action[t], first[t], embed[t], u[t])
        assert torch.allclose(states["deter"][t], state["deter"], atol=1e-6)
        assert torch.equal(states["stoch"][t], state["stoch"])
        assert torch.allclose(logits[t], logit, atol=1e-5)
    assert torch.equal(last["stoch"], state["stoch"])


def test_unroll_is_a_loop_of_steps() -> None:
    check_unroll(memory())
    check_unroll(learned())
