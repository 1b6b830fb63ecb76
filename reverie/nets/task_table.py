"""What a model of several tasks keeps of each: a learned embedding, which actions there are, and a discount."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BOUND = 0.02
"""of first embeddings, which are uniform"""
NORM = 1.0
"""that an embedding has at most"""


class TaskTable(nn.Module):
    """A row per task.

    ::

        task k      e_k [size], |e_k| <= 1      mask_k = 1 ... 1 0 ... 0, widths[k] ones      gamma_k

    size: numbers of an embedding. widths: numbers that an action of each task has, of `actions`. gammas: of each.
    Source: Hansen et al. 2024 (TD-MPC2), section 3.3; its code, common/world_model.py, init.py.
    Raises ValueError unless there are as many gammas as widths, of which none is above `actions`.
    """

    mask: Tensor
    gamma: Tensor

    def __init__(self, size: int, widths: Sequence[int], actions: int, gammas: Sequence[float]) -> None:
        super().__init__()
        if len(gammas) != len(widths) or max(widths) > actions:
            raise ValueError(f"expected a gamma per task and widths of at most {actions}, got {gammas} and {widths}")
        self.embedding = nn.Parameter(torch.empty(len(widths), size).uniform_(-BOUND, BOUND))
        ones = torch.arange(actions) < torch.tensor(list(widths)).unsqueeze(-1)
        self.register_buffer("mask", ones.float(), persistent=False)
        self.register_buffer("gamma", torch.tensor(list(gammas), dtype=torch.float32), persistent=False)

    def embed(self, task: Tensor) -> Tensor:
        """Embeddings float32 [..., size] of tasks int64 [...]."""
        return F.embedding(task, self.embedding)

    def masks(self, task: Tensor) -> Tensor:
        """Masks float32 [..., actions]: 1 where a task has an action."""
        return F.embedding(task, self.mask)

    def gammas(self, task: Tensor) -> Tensor:
        """Discounts float32 [...]."""
        return F.embedding(task, self.gamma.unsqueeze(-1)).squeeze(-1)

    def widths(self, task: Tensor) -> Tensor:
        """How many actions there are, float32 [...]."""
        return self.masks(task).sum(-1)

    @torch.no_grad()
    def bound(self) -> None:
        """Scale embeddings of a norm above 1 back to 1, in place: to be done after every step of their optimiser."""
        self.embedding.copy_(self.embedding.renorm(2, 0, NORM))
