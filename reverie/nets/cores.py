"""Recurrent cores: one step, and an unroll that is a loop of it. Resets happen inside `step` and nowhere else.

A core keeps nothing between calls. Where a row is_first, the state is replaced by the initial one before the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.data.rows import State
from reverie.nets.lstm import lstm_unroll
from reverie.ops.host import at_hand


class Core(nn.Module, ABC):
    """The memory of a policy: (state, input) -> (output, state)."""

    outputs: int

    @abstractmethod
    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """Zeros, name -> [B, ...]."""

    @abstractmethod
    def advance(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Output [B, ...] and state after one step without resets. x: [B, ...]."""

    def step(self, state: State, x: Tensor, is_first: Tensor) -> tuple[Tensor, State]:
        """Output and state after one step. x: [B, ...], is_first: bool [B].

        Initial states are zeros, so a reset is a product with 0 or 1.
        """
        return self.advance({name: reset(value, is_first) for name, value in state.items()}, x)

    def unroll(self, state: State, x: Tensor, is_first: Tensor) -> tuple[Tensor, State]:
        """Outputs [T, B, ...], and the state after the last row. x: [T, B, ...], is_first: bool [T, B]."""
        outputs = []
        for t in range(len(x)):
            output, state = self.step(state, x[t], is_first[t])
            outputs.append(output)
        return torch.stack(outputs), state


def reset(value: Tensor, is_first: Tensor) -> Tensor:
    """Zero the entries of a state [B, ...] where is_first [B]; a product, which unlike `where` is fast on a CPU."""
    if at_hand(is_first) and not is_first.any():
        return value
    return value * (~is_first).to(value.dtype).view(-1, *[1] * (value.dim() - 1))


class Identity(Core):
    """No memory: the output is the input."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.outputs = inputs

    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """No state."""
        return {}

    def advance(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Input x, unchanged."""
        return x, {}


class LSTM(Core):
    """Long short-term memory, PyTorch's cell. State: ``hidden`` and ``cell``, [B, units].

    forget_bias: added to the initial bias of the forget gates. At 0 an untrained cell halves what it holds on each row;
    at b it keeps a share of about sigmoid(b), 0.95 at 3, so that there is something to learn from many rows later.
    Source: Hochreiter & Schmidhuber 1997, with forget gates; the core of R2D2 and IMPALA. The bias: Gers, Schmidhuber &
    Cummins 2000, "Learning to forget", section 3.
    """

    def __init__(self, inputs: int, units: int, forget_bias: float = 0.0) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, units)
        self.outputs = units
        if forget_bias:
            with torch.no_grad():
                self.cell.bias_ih[units : 2 * units] += forget_bias  # gates are in PyTorch's order: i, f, g, o

    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """Zeros."""
        zeros = torch.zeros(batch, self.outputs, device=device)
        return {"hidden": zeros, "cell": zeros.clone()}

    def advance(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Output [B, units] and state after one step. x: [B, inputs]."""
        hidden, cell = self.cell(x, (state["hidden"], state["cell"]))
        return hidden, {"hidden": hidden, "cell": cell}

    def unroll(self, state: State, x: Tensor, is_first: Tensor) -> tuple[Tensor, State]:
        """Outputs and last state by one operation, see `reverie.nets.lstm`; equal to the loop up to rounding."""
        projected = F.linear(x, self.cell.weight_ih, self.cell.bias_ih + self.cell.bias_hh)
        outputs, hidden, cell = lstm_unroll(projected, self.cell.weight_hh, state["hidden"], state["cell"], is_first)
        return outputs, {"hidden": hidden, "cell": cell}


class GRU(Core):
    """Gated recurrent unit, PyTorch's cell (not the RSSM's; see `reverie.nets.rssm.GRUCell`). State: ``hidden``.

    Source: Cho et al. 2014.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(inputs, units)
        self.outputs = units

    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """Zeros."""
        return {"hidden": torch.zeros(batch, self.outputs, device=device)}

    def advance(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Output [B, units] and state after one step. x: [B, inputs]."""
        hidden = self.cell(x, state["hidden"])
        return hidden, {"hidden": hidden}


class FrameStack(Core):
    """The last k frames, channels concatenated, oldest first; frames before an episode are black.

    State: ``frames`` uint8 [B, H, W, (k-1) C]. Replay stores each frame once; k - 1 context rows rebuild a stack.
    Source: Mnih et al. 2015 (k = 4); as a core, so that stacked DQN is a recurrent agent with an exactly known state.
    Raises ValueError if k < 1.
    """

    def __init__(self, shape: tuple[int, int, int], k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"a stack has at least one frame, got k = {k}")
        self.shape, self.k = shape, k
        self.outputs = shape[2] * k

    def initial_state(self, batch: int, device: torch.device | None = None) -> State:
        """Black frames."""
        height, width, channels = self.shape
        frames = torch.zeros(batch, height, width, channels * (self.k - 1), dtype=torch.uint8, device=device)
        return {"frames": frames}

    def advance(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Stack uint8 [B, H, W, k C] with the newest frame x, uint8 [B, H, W, C], and the state."""
        stack = torch.cat([state["frames"], x], -1)
        return stack, {"frames": stack[..., self.shape[2] :]}

    def unroll(self, state: State, x: Tensor, is_first: Tensor) -> tuple[Tensor, State]:
        """Stacks of all rows at once."""
        stack = torch.cat(self._back(state, x, is_first, len(x), self.k), -1)
        return stack, {"frames": stack[-1, ..., self.shape[2] :]}

    def look(self, state: State, x: Tensor, is_first: Tensor) -> State:
        """The state that `unroll` returns second, without making the stacks of all rows."""
        if self.k == 1:
            return {"frames": x[-1, ..., :0]}
        return {"frames": torch.cat(self._back(state, x, is_first, 1, self.k - 1), -1)[0]}

    def _back(self, state: State, x: Tensor, is_first: Tensor, rows: int, depth: int) -> list[Tensor]:
        """Frames depth - 1, ..., 1, 0 rows back from each of the last `rows` rows, [rows, B, H, W, C] each.

        A frame is black if an episode began in between.
        """
        seen = rows + depth - 1
        if len(x) < seen:
            past = state["frames"].unflatten(-1, (self.k - 1, self.shape[2])).movedim(-2, 0)
            x = torch.cat([past, x])
        pieces, same = [], torch.ones_like(is_first)
        for j in range(depth):
            stop = len(x) - j
            piece = x[stop - rows : stop]
            if j:
                # same[t]: no episode begins in rows t-j+1 ... t; what is before the window is in the state already.
                same = same & F.pad(~is_first, (0, 0, j - 1, 0), value=True)[: len(is_first)]
                piece = piece * same[-rows:].view(rows, -1, 1, 1, 1)
            pieces.append(piece)
        return pieces[::-1]
