"""TD-MPC2's model of the world: no pictures, but what follows on an action, what it pays, and what it is worth.

::

    z' = d(z, a)      r = R(z, a)      (terminal = T(z'))      a ~ p(z)      Q_1(z, a) ... Q_5(z, a)

Latents come from an encoder (`reverie.nets.latent_encoder`) and are normalised like them; rewards and values are
two-hot distributions over bins in symlog space; p is the policy prior. See `reverie.agents.tdmpc2`.

Of several tasks every network reads [z | e_k | a], with the embedding of the task behind the latent, and the prior's
actions are 0 where the task has none (`reverie.nets.task_table`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from reverie.agents.latent_policy import LatentModel
from reverie.agents.tdmpc2_sizes import Size
from reverie.nets.normed import NormedEnsemble, normed_mlp, simnorm
from reverie.nets.outputs import TwoHot
from reverie.nets.task_table import TaskTable
from reverie.ops.continuous import normal_log_prob, normal_sample
from reverie.values import Count, Finite, Positive


@dataclass(frozen=True)
class ModelConfig:
    """Settings of encoder and model beside their size. group: numbers that SimNorm makes a distribution of.

    bins, limit: of rewards and values, an odd number from -limit to limit in symlog space.
    dropout: of the critics' first layer. log_std_min, log_std_max: bounds of the prior's log standard deviation.
    episodic: whether episodes have true ends: a head learns them, and plans end there. Without it plans go on past
        ends, while targets of values never do.
    """

    group: Count = 8
    bins: Count = 101
    limit: Positive = 10.0
    dropout: float = 0.01
    log_std_min: Finite = -10.0
    log_std_max: Finite = 2.0
    episodic: bool = False

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"group must be at least 1, got {self.group}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.log_std_min >= self.log_std_max:
            raise ValueError(f"expected log_std_min < log_std_max, got {self.log_std_min} and {self.log_std_max}")
        if self.bins < 3 or self.bins % 2 == 0 or self.limit <= 0.0:
            raise ValueError(f"bins must be odd and at least 3, limit positive, got {self.bins} and {self.limit}")


class SimplicialModel(LatentModel):
    """Dynamics, reward, ends, policy prior and critics over latents [..., latent] and actions [..., actions].

    tasks: of several, see `LatentModel`.
    """

    critics: NormedEnsemble

    def __init__(
        self, latent: int, actions: int, size: Size, config: ModelConfig, tasks: TaskTable | None = None
    ) -> None:
        super().__init__(tasks)
        self.latent, self.actions, self.config = latent, actions, config
        known = latent + (0 if tasks is None else tasks.embedding.shape[1])
        hidden, both = [size.units] * 2, known + actions
        self.dynamics = normed_mlp(both, hidden, latent, partial(simnorm, group=config.group))
        self.reward = normed_mlp(both, hidden, config.bins, zero=True)
        self.end = normed_mlp(known, hidden, 1) if config.episodic else None
        self.prior = normed_mlp(known, hidden, 2 * actions)
        self.critics = NormedEnsemble(size.critics, both, size.units, config.bins, config.dropout)
        self.numbers = TwoHot.uniform(config.bins, config.limit)
        """what the outputs of reward and critics mean"""
        self.value_noise = (actions, size.critics)

    def known(self, z: Tensor, task: Tensor | None = None) -> Tensor:
        """What networks read of latents: of several tasks the embeddings too."""
        return z if task is None or self.tasks is None else torch.cat([z, self.tasks.embed(task)], -1)

    def pairs(self, z: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """What networks read of latents and actions."""
        return torch.cat([self.known(z, task), action], -1)

    def next(self, z: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """The latent that follows."""
        return self.dynamics(self.pairs(z, action, task)).float()

    def pays(self, z: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Mean of the reward [...]."""
        return self.numbers.mean(self.reward(self.pairs(z, action, task)))

    def ended(self, z: Tensor, task: Tensor | None = None) -> Tensor | None:
        """Where the probability of an end is above 1/2; None without a head for ends."""
        return None if self.end is None else self.end(self.known(z, task)).squeeze(-1) > 0.0

    def propose(self, z: Tensor, u: Tensor, task: Tensor | None = None) -> Tensor:
        """An action of `act`."""
        return self.act(z, u, task)[0]

    def prefer(self, z: Tensor, task: Tensor | None = None) -> Tensor:
        """tanh(m), see `act`; 0 where a task does not have an action."""
        action = torch.tanh(self.prior(self.known(z, task)).float().chunk(2, -1)[0])
        mask = self.mask(task)
        return action if mask is None else action * mask

    def worth(self, z: Tensor, own: Tensor, shared: Tensor, task: Tensor | None = None) -> Tensor:
        """Mean [N] of two critics at an action of the prior; the two are drawn once for all candidates of a stream.

        own: uniform [N, A]; shared: uniform [N, critics]. Source: tdmpc2.py, ``_estimate_value``.
        """
        values = self.values(z, self.propose(z, own, task), self.critics, task=task)
        return values.transpose(0, 1).gather(1, pair(shared)).mean(-1)

    def act(self, z: Tensor, u: Tensor, task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """An action of the prior [..., A] in [-1, 1], and log N [...] of it before it was squashed.

        Actions that a task does not have are 0, and their densities do not count.

            a = tanh(m + s e),    log s = min + (max - min) (tanh(x) + 1) / 2,    (m, x) = p(z),    e ~ N(0, 1)

        u: uniform [..., A]. Source: Hansen et al. 2024 (TD-MPC2), equation 6; common/math.py.
        """
        mean, x = self.prior(self.known(z, task)).float().chunk(2, -1)
        low, high = self.config.log_std_min, self.config.log_std_max
        std = (low + 0.5 * (high - low) * (torch.tanh(x) + 1.0)).exp()
        unsquashed = normal_sample(mean, std, u)
        log_prob = normal_log_prob(unsquashed, mean, std)
        mask = self.mask(task)
        if mask is not None:
            unsquashed, log_prob = unsquashed * mask, log_prob * mask
        return torch.tanh(unsquashed), log_prob.sum(-1)

    def values(
        self,
        z: Tensor,
        action: Tensor,
        critics: NormedEnsemble,
        u: Tensor | None = None,
        chosen: Tensor | None = None,
        task: Tensor | None = None,
    ) -> Tensor:
        """Values [K, ...] that some critics give, see `NormedEnsemble`."""
        return self.numbers.mean(critics(self.pairs(z, action, task), u, chosen))


def pair(u: Tensor) -> Tensor:
    """Two different critics at random, int64 [..., 2]. u: uniform [..., critics]."""
    return u.topk(2, -1).indices
