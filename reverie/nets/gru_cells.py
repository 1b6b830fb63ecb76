"""Plain gated recurrent cells, (x, h) -> h', in the two forms that differ in where the reset gate acts.

Both mix h' = u h + (1 - u) c, so that the update gate u says how much is kept. DreamerV2's `reverie.nets.rssm.GRUCell`
is a third form: layer-normalised, and its gate says how much is taken over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResetAfterGRU(nn.Module):
    """GRU whose reset gate acts after the recurrent product, as in Keras, cuDNN and PyTorch::

        (r, u, c)_x = W x + b     (r, u, c)_h = U h + d
        r = s(r_x + r_h)    u = s(u_x + u_h)    c = tanh(c_x + r * c_h)    h' = u h + (1 - u) c

    First parameters as Keras': Glorot's kernel W, orthogonal U, zero biases.
    Source: Dreamer V1 code, whose cell is tf.keras.layers.GRUCell with its defaults.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, 3 * units)
        self.recurrent = nn.Linear(units, 3 * units)

    def reset_parameters(self) -> None:
        """Orthogonal recurrent kernel; the other parameters are those of any linear layer."""
        nn.init.orthogonal_(self.recurrent.weight)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Next state [B, units]. x: [B, inputs], h: [B, units]."""
        reset_x, update_x, candidate_x = self.inputs(x).float().chunk(3, -1)
        reset_h, update_h, candidate_h = self.recurrent(h).float().chunk(3, -1)
        candidate = torch.tanh(candidate_x + torch.sigmoid(reset_x + reset_h) * candidate_h)
        return torch.lerp(candidate, h, torch.sigmoid(update_x + update_h))


class ResetBeforeGRU(nn.Module):
    """GRU whose reset gate acts on the state before the recurrent product, as it was published::

        (r, u) = s(W [x; h] + b)    c = tanh(V [x; r * h] + d)    h' = u h + (1 - u) c

    b begins at 1, so that a new cell keeps most of its state, d at 0.
    Source: Cho et al. 2014; PlaNet code, whose cell is tf.contrib.rnn.GRUBlockCell.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + units, 2 * units)
        self.candidate = nn.Linear(inputs + units, units)

    def reset_parameters(self) -> None:
        """Gate biases of 1; the other parameters are those of any linear layer."""
        nn.init.ones_(self.gates.bias)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Next state [B, units]. x: [B, inputs], h: [B, units]."""
        reset, update = torch.sigmoid(self.gates(torch.cat([x, h], -1)).float()).chunk(2, -1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * h], -1)).float())
        return torch.lerp(candidate, h, update)
