"""Critics of actor-critics: a linear value, plain or with PopArt, which keeps values and their losses at one scale.

::

    features ---> forward ---> value, unnormalised: what returns bootstrap from
             ---> loss     of that value towards a target, in units of `scale`
    target   ---> adapt    takes the targets in; afterwards values are what they were, and `scale` is theirs

A learner calls `forward`, makes targets, calls `adapt`, then `loss`; advantages are divided by `scale`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.nets.layers import Numbers
from reverie.ops import world
from reverie.ops.losses import td_squared
from reverie.ops.precision import full


class Critic(nn.Module):
    """Linear value of features."""

    def __init__(self, inputs: int, tasks: int = 1) -> None:
        super().__init__()
        self.out = Numbers(inputs, tasks)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """Values float32 [...] of features x [..., inputs]. task: int64 [...], which output; None: the first."""
        return self._of_task(self.out(x), task)

    def adapt(self, target: Tensor, mask: Tensor, task: Tensor | None = None) -> None:
        """Take in targets [...] where mask [...]; here nothing happens."""

    def loss(self, x: Tensor, target: Tensor, task: Tensor | None = None) -> Tensor:
        """Half the squared error [...] of the values of x [..., inputs] towards target [...], which has no gradient."""
        return td_squared(self(x, task), target)

    def scale(self, task: Tensor | None = None) -> Tensor:
        """Unit of values, by which advantages are to be divided; [] or [...]: 1 here."""
        return torch.ones((), device=self.out.weight.device)

    def metrics(self) -> dict[str, Tensor]:
        """Detached 0-d tensors to be logged; none here."""
        return {}

    @staticmethod
    def _of_task(x: Tensor, task: Tensor | None) -> Tensor:
        """Entry [...] of x [..., tasks] (or [tasks]) of the task [...]."""
        if task is None:
            return x[..., 0]
        return x[task] if x.dim() == 1 else x.gather(-1, task.unsqueeze(-1)).squeeze(-1)


class PopArt(Critic):
    """Critic of normalised outputs n(x) = w x + c with V = sigma n + mu; a change of mu and sigma leaves V as it is.

    For n targets y of a task, with b = `step` and rate 1 - (1 - b)^n, which is b for each of them in turn::

        mu <- mu + rate (mean y - mu),   nu <- nu + rate (mean y^2 - nu),   sigma = sqrt(clip(nu - mu^2, low^2, high^2))
        w <- w sigma_old / sigma,        c <- (sigma_old c + mu_old - mu) / sigma

    Losses are half the squared error of (target - mu) / sigma and n, so that tasks and phases whose returns differ in
    size weigh alike. mu begins at 0, nu and sigma at 1; they are float64, since nu - mu^2 subtracts near equals. The
    optimiser's moments are left as they are.

    step: share that one target has. low, high: bounds of sigma. Raises ValueError for step outside (0, 1] or bounds
    that are not 0 < low <= high.
    Source: van Hasselt et al. 2016, "Learning values across many orders of magnitude", section 2; Hessel et al. 2019,
    "Multi-task Deep Reinforcement Learning with PopArt", section 4: per task, beta 3e-4, bounds 1e-4 and 1e6.
    """

    mean: Tensor
    square: Tensor

    def __init__(self, inputs: int, tasks: int = 1, step: float = 3e-4, low: float = 1e-4, high: float = 1e6) -> None:
        if not 0.0 < step <= 1.0 or not 0.0 < low <= high:
            raise ValueError(f"expected 0 < step <= 1 and 0 < low <= high, got {step}, {low} and {high}")
        super().__init__(inputs, tasks)
        self.step, self.low, self.high = step, low, high
        self.register_buffer("mean", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("square", torch.ones(tasks, dtype=torch.float64))

    def sigma(self) -> Tensor:
        """Scale of each task, float64 [tasks]."""
        return (self.square - self.mean.square()).clamp(self.low**2, self.high**2).sqrt()

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """Unnormalised values float32 [...] of features x [..., inputs]."""
        sigma, mean = self.sigma().float(), self.mean.float()
        return self._of_task(sigma * self.out(x) + mean, task)

    @torch.no_grad()
    def adapt(self, target: Tensor, mask: Tensor, task: Tensor | None = None) -> None:
        """Take in targets [...] where mask [...], task by task, and rescale the layer so that values stay."""
        tasks, old_mean, old_sigma = len(self.mean), self.mean.clone(), self.sigma()
        of = torch.zeros_like(mask, dtype=torch.int64) if task is None else task
        counts = mask.unsqueeze(-1) & (of.unsqueeze(-1) == torch.arange(tasks, device=mask.device))
        lead = tuple(range(mask.dim()))
        y = torch.where(counts, target.detach().double().unsqueeze(-1), 0.0)
        sums = torch.stack([counts.sum(lead).double(), y.sum(lead), y.square().sum(lead)])
        number, *totals = world.total(sums).unbind()
        rate = 1.0 - (1.0 - self.step) ** number
        for moment, total in zip((self.mean, self.square), totals, strict=True):
            moment.add_(rate * (total / number.clamp(min=1.0) - moment))
        ratio, shift = old_sigma / self.sigma(), (old_mean - self.mean) / self.sigma()
        self.out.weight.copy_(self.out.weight * ratio.unsqueeze(-1))
        self.out.bias.copy_(self.out.bias * ratio + shift)

    def loss(self, x: Tensor, target: Tensor, task: Tensor | None = None) -> Tensor:
        """Half the squared error [...] of normalised outputs towards the normalised target."""
        mean = self._of_task(self.mean, task)
        normalised = ((full(target).double() - mean) / self._of_task(self.sigma(), task)).to(full(target).dtype)
        return td_squared(self._of_task(self.out(x), task), normalised)

    def scale(self, task: Tensor | None = None) -> Tensor:
        """sigma of the task, float32."""
        return self._of_task(self.sigma(), task).float()

    def metrics(self) -> dict[str, Tensor]:
        """Mean over tasks of mu and of sigma; of several tasks also those of each, by its number."""
        means, sigmas = self.mean.clone(), self.sigma()
        metrics = {"popart_mean": means.mean(), "popart_sigma": sigmas.mean()}
        for k in range(means.shape[0] if means.shape[0] > 1 else 0):
            metrics |= {f"popart_mean_{k}": means[k], f"popart_sigma_{k}": sigmas[k]}
        return metrics
