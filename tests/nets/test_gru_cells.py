"""Plain GRU cells: steps by hand, PyTorch's cell, where the reset gate acts, first parameters."""

import math

import pytest
import torch
from torch import nn

from reverie.nets.gru_cells import ResetAfterGRU, ResetBeforeGRU
from reverie.nets.latents import Gaussian
from reverie.nets.layers import glorot_
from reverie.nets.rssm import RSSM, RSSMConfig
from tests.nets.test_rssm import rows


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def filled(cell: nn.Module, **values: list[list[float]] | list[float]) -> nn.Module:
    """The cell with these parameters, by name with _ for the dot."""
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            parameter.copy_(torch.tensor(values[name.replace(".", "_")]))
    return cell


def test_reset_after_by_hand() -> None:
    """One unit, x = 2, h = 0.5: gates in the order reset, update, candidate."""
    cell = filled(
        ResetAfterGRU(1, 1),
        inputs_weight=[[0.1], [-0.2], [0.3]],
        inputs_bias=[0.01, 0.02, 0.03],
        recurrent_weight=[[0.4], [0.5], [-0.6]],
        recurrent_bias=[0.04, 0.05, 0.06],
    )
    reset = sigmoid(0.1 * 2 + 0.01 + 0.4 * 0.5 + 0.04)
    update = sigmoid(-0.2 * 2 + 0.02 + 0.5 * 0.5 + 0.05)
    candidate = math.tanh(0.3 * 2 + 0.03 + reset * (-0.6 * 0.5 + 0.06))
    expected = update * 0.5 + (1 - update) * candidate
    assert cell(torch.tensor([[2.0]]), torch.tensor([[0.5]])).item() == pytest.approx(expected, abs=1e-6)


def test_reset_before_by_hand() -> None:
    """One unit, x = 2, h = 0.5; inputs come before the state."""
    cell = filled(
        ResetBeforeGRU(1, 1),
        gates_weight=[[0.1, 0.4], [-0.2, 0.5]],
        gates_bias=[0.01, 0.02],
        candidate_weight=[[0.3, -0.6]],
        candidate_bias=[0.03],
    )
    reset = sigmoid(0.1 * 2 + 0.4 * 0.5 + 0.01)
    update = sigmoid(-0.2 * 2 + 0.5 * 0.5 + 0.02)
    candidate = math.tanh(0.3 * 2 - 0.6 * (reset * 0.5) + 0.03)
    expected = update * 0.5 + (1 - update) * candidate
    assert cell(torch.tensor([[2.0]]), torch.tensor([[0.5]])).item() == pytest.approx(expected, abs=1e-6)


def test_reset_after_is_the_stock_cell() -> None:
    """PyTorch's has the same order of gates, its z is the update gate."""
    torch.manual_seed(0)
    cell, stock = ResetAfterGRU(3, 5), nn.GRUCell(3, 5)
    with torch.no_grad():
        stock.weight_ih.copy_(cell.inputs.weight)
        stock.bias_ih.copy_(cell.inputs.bias)
        stock.weight_hh.copy_(cell.recurrent.weight)
        stock.bias_hh.copy_(cell.recurrent.bias)
    x, h = torch.randn(7, 3), torch.randn(7, 5)
    assert torch.allclose(cell(x, h), stock(x, h), atol=1e-6)


def test_the_two_differ_in_where_the_reset_acts() -> None:
    """With the same weights and reset gates that are open they agree; with half-open ones they do not."""
    torch.manual_seed(0)
    after, before = ResetAfterGRU(2, 3), ResetBeforeGRU(2, 3)
    with torch.no_grad():
        after.recurrent.bias.normal_()  # inside the reset here, where the other has none
        whole = torch.cat([after.inputs.weight, after.recurrent.weight], 1)
        bias = after.inputs.bias + after.recurrent.bias
        before.gates.weight.copy_(whole[:6])
        before.gates.bias.copy_(bias[:6])
        before.candidate.weight.copy_(whole[6:])
        before.candidate.bias.copy_(bias[6:])
    x, h = torch.randn(4, 2), torch.randn(4, 3)
    assert (after(x, h) - before(x, h)).abs().max() > 1e-2
    with torch.no_grad():
        after.inputs.bias[:3] += 1e3
        before.gates.bias[:3] += 1e3
    assert torch.allclose(after(x, h), before(x, h), atol=1e-6)


@pytest.mark.parametrize("cell", ["reset_after", "reset_before"])
def test_a_memory_of_either_has_its_first_parameters(cell: str) -> None:
    torch.manual_seed(0)
    rssm = RSSM(7, 3, RSSMConfig(deter=6, hidden=5, latent="gaussian", stoch=4, std="softplus", cell=cell))
    glorot_(rssm)
    rssm.reset_parameters()
    own = dict(rssm.cell.named_parameters())
    if cell == "reset_after":
        kernel = own["recurrent.weight"]
        assert torch.allclose(kernel.T @ kernel, torch.eye(6), atol=1e-5)
        assert own["inputs.weight"].abs().max() <= math.sqrt(6 / (5 + 18))
        assert not own["inputs.bias"].any()
        assert not own["recurrent.bias"].any()
    else:
        assert own["gates.bias"].tolist() == [1.0] * 12
        assert not own["candidate.bias"].any()
    action, is_first, embed, u = rows()
    states, _, last = rssm.observe(rssm.initial_state(3), action, is_first, embed, u)
    state = rssm.initial_state(3)
    for t in range(len(action)):
        state, _ = rssm.observe_step(state, action[t], is_first[t], embed[t], u[t])
        assert torch.allclose(state["deter"], states["deter"][t], atol=1e-6)
    assert torch.allclose(state["deter"], last["deter"], atol=1e-6)


def test_another_cell_and_another_std_are_refused() -> None:
    with pytest.raises(ValueError, match="cell must be one of norm, reset_after, reset_before, got 'lstm'"):
        RSSM(1, 1, RSSMConfig(cell="lstm"))
    with pytest.raises(ValueError, match="std must be 'sigmoid2' or 'softplus', got 'exp'"):
        Gaussian(2, "exp")


def test_softplus_std() -> None:
    mean, std = Gaussian(1, "softplus").stats(torch.tensor([[0.3, 0.7]]))
    assert mean.item() == pytest.approx(0.3)
    assert std.item() == pytest.approx(math.log(1 + math.exp(0.7)) + 0.1)
