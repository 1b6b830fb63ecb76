"""Cores: unroll is a loop of step, resets forget, and the frame stack has an exactly known state."""

import pytest
import torch

from reverie.nets.cores import GRU, LSTM, Core, FrameStack, Identity

TIME, BATCH = 9, 4


def make(kind: str) -> tuple[Core, torch.Tensor]:
    torch.manual_seed(0)
    if kind == "stack":
        x = torch.arange(1, TIME * BATCH + 1, dtype=torch.uint8).view(TIME, BATCH, 1, 1, 1).expand(-1, -1, 2, 3, 1)
        return FrameStack((2, 3, 1), 4), x.clone()
    x = torch.randn(TIME, BATCH, 5)
    return {"lstm": LSTM(5, 6), "gru": GRU(5, 6), "identity": Identity(5)}[kind], x


KINDS = ["lstm", "gru", "identity", "stack"]


@pytest.mark.parametrize("kind", KINDS)
def test_unroll_is_a_loop_of_step(kind: str) -> None:
    core, x = make(kind)
    first = torch.rand(TIME, BATCH, generator=torch.Generator().manual_seed(0)) < 0.3
    outputs, last = core.unroll(core.initial_state(BATCH), x, first)
    state = core.initial_state(BATCH)
    exact = kind != "lstm"  # whose products are grouped otherwise
    for t in range(TIME):
        output, state = core.step(state, x[t], first[t])
        assert torch.equal(output, outputs[t]) if exact else torch.allclose(output, outputs[t], atol=1e-6)
    for name in last:
        assert torch.equal(state[name], last[name]) if exact else torch.allclose(state[name], last[name], atol=1e-6)


def test_forget_bias_opens_the_forget_gates_and_nothing_else() -> None:
    torch.manual_seed(0)
    plain = LSTM(5, 6)
    torch.manual_seed(0)
    open_ = LSTM(5, 6, forget_bias=3.0)
    for (name, a), b in zip(plain.named_parameters(), open_.parameters(), strict=True):
        assert torch.equal(a, b) == (name != "cell.bias_ih")
    with torch.no_grad():
        added = open_.cell.bias_ih - plain.cell.bias_ih
    assert torch.allclose(added, torch.tensor([0.0] * 6 + [3.0] * 6 + [0.0] * 12), atol=1e-6)
    for core, kept in ((plain, 0.5), (open_, 0.952574)):  # sigmoid of 0 and 3, where nothing else feeds the gates
        with torch.no_grad():
            for parameter in core.parameters():
                parameter.mul_(0.0) if parameter is not core.cell.bias_ih else parameter.round_()
            state = {"hidden": torch.zeros(1, 6), "cell": torch.ones(1, 6)}
            _, after = core.advance(state, torch.zeros(1, 5))
        assert torch.allclose(after["cell"], torch.full((1, 6), kept), atol=1e-6)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("time", "batch"), [(TIME, BATCH), (TIME, 1), (1, BATCH), (1, 1)])
def test_lstm_gradients_are_those_of_the_loop(time: int, batch: int, frozen: bool) -> None:
    """Of parameters, inputs and the first state, with resets, from outputs and from the last state."""
    torch.manual_seed(0)
    core = LSTM(5, 6).double()
    core.cell.weight_hh.requires_grad_(not frozen)
    x = torch.randn(time, batch, 5, dtype=torch.double, requires_grad=True)
    state = {name: torch.randn(batch, 6, dtype=torch.double, requires_grad=True) for name in ("hidden", "cell")}
    first = torch.rand(time, batch, generator=torch.Generator().manual_seed(1)) < 0.3
    assert first.any() or time == 1
    weights = torch.randn(time + 2, batch, 6, dtype=torch.double)
    wanted = [*(p for p in core.parameters() if p.requires_grad), x, *state.values()]
    found = []
    for unroll in (core.unroll, lambda *given: Core.unroll(core, *given)):
        outputs, last = unroll(state, x, first)
        total = (weights[:-2] * outputs).sum() + (weights[-2] * last["hidden"]).sum()
        total = total + (weights[-1] * last["cell"]).sum()
        found.append(torch.autograd.grad(total, wanted))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)
        assert ours.abs().max() > 0


@pytest.mark.parametrize("kind", ["lstm", "gru", "stack"])
def test_a_reset_forgets_everything_before_it(kind: str) -> None:
    core, x = make(kind)
    first = torch.zeros(TIME, BATCH, dtype=torch.bool)
    first[5, 1] = True
    outputs, _ = core.unroll(core.initial_state(BATCH), x, first)
    fresh, _ = core.unroll(core.initial_state(BATCH), x[5:], torch.zeros_like(first[5:]))
    assert torch.equal(outputs[5:, 1], fresh[:, 1])
    assert not torch.allclose(outputs[5:, 0], fresh[:, 0])


def test_frame_stack_by_hand() -> None:
    core, x = make("stack")
    first = torch.zeros(TIME, BATCH, dtype=torch.bool)
    first[6] = True
    outputs, state = core.unroll(core.initial_state(BATCH), x, first)
    pixel = outputs[:, 0, 0, 0].tolist()
    assert pixel[0] == [0, 0, 0, 1]
    assert pixel[2] == [0, 1, 5, 9]
    assert pixel[5] == [9, 13, 17, 21]
    assert pixel[6] == [0, 0, 0, 25]
    assert pixel[8] == [0, 25, 29, 33]
    assert state["frames"][0, 0, 0].tolist() == [25, 29, 33]
    assert outputs.dtype == torch.uint8


def test_lstm_equals_torch_sequence() -> None:
    """A fused LSTM without resets is the slow path's reference."""
    core, x = make("lstm")
    fused = torch.nn.LSTM(5, 6)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(fused, name + "_l0").copy_(getattr(core.cell, name))
    expected, _ = fused(x)
    outputs, _ = core.unroll(core.initial_state(BATCH), x, torch.zeros(TIME, BATCH, dtype=torch.bool))
    assert torch.allclose(outputs, expected, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 9])
def test_a_look_leaves_the_state_of_an_unroll(k: int, time: int) -> None:
    stack = FrameStack((2, 3, 2), k)
    random = torch.Generator().manual_seed(k)
    for _ in range(10):
        x, past = (torch.randint(1, 256, (n, BATCH, 2, 3, 2), generator=random, dtype=torch.uint8) for n in (time, k))
        _, state = stack.unroll(stack.initial_state(BATCH), past, torch.zeros(k, BATCH, dtype=torch.bool))
        first = torch.rand(time, BATCH, generator=random) < 0.3
        expected = stack.unroll(state, x, first)[1]["frames"]
        assert torch.equal(stack.look(state, x, first)["frames"], expected)


def test_a_stack_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="k = 0"):
        FrameStack((2, 2, 1), 0)
