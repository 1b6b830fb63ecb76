"""The policy of TD-MPC: that of `reverie.agents.latent_policy`, whose search begins short and wide.

::

    learner_steps v      0 ... over                          published: over 25 000
    horizon              1 + floor((H - 1) v / over)         1, 2, ... 5
    std of refits >=     0.5 + (0.05 - 0.5) v / over

At first the model knows little of what is far ahead, and what is tried should vary. In the published code both go by
env_steps, of which there are as many there as learner_steps (the pretraining counts as those of the prefill). Here they
go by learner_steps, which travel with the parameters, so that whoever evaluates, loads or exports a policy plans as it
did. Images are not shifted in acting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reverie.agents.inputs import Stacks
from reverie.agents.latent_policy import LatentModel, LatentPolicy
from reverie.agents.plan import Limits, PlanConfig
from reverie.agents.policy import Seat
from reverie.nets.actions import ContinuousActions
from reverie.nets.latent_encoder import LatentEncoder
from reverie.nets.schedule import check, counted, schedule
from reverie.values import Scale


@dataclass(frozen=True)
class Annealing:
    """Limits of the search at the beginning, and how long they take to those of `agent.plan`.

    first_horizon: decisions. first_std: least std of refits.
    over: a share of the run or learner_steps, see `reverie.nets.schedule`; 0: those of `agent.plan` from the beginning.

    Source: Hansen et al. 2022 (TD-MPC), appendix on hyper-parameters; cfgs/default.yaml, ``horizon_schedule`` and
    ``std_schedule``. Raises ValueError for a first_horizon below 1.
    """

    first_horizon: int = 1
    first_std: Scale = 0.5
    over: float = schedule("learner_steps", 25_000)

    def __post_init__(self) -> None:
        check(self)
        if self.first_horizon < 1 or self.first_std < 0.0:
            raise ValueError(
                f"expected first_horizon >= 1 and first_std >= 0, got {self.first_horizon} and {self.first_std}"
            )

    def fits(self, search: PlanConfig) -> None:
        """Raise ValueError where the beginning is beyond what the search has."""
        if self.first_horizon > search.horizon or self.first_std > search.max_std:
            raise ValueError(
                f"first_horizon and first_std must be at most plan.horizon {search.horizon} and plan.max_std "
                f"{search.max_std}, got {self.first_horizon} and {self.first_std}"
            )


class TDMPCPolicy(LatentPolicy):
    """Policy with annealed limits of its search. Raises ValueError for a schedule that is not resolved."""

    def __init__(
        self,
        encoder: LatentEncoder,
        model: LatentModel,
        actions: ContinuousActions,
        stacks: Stacks,
        search: PlanConfig,
        gamma: float,
        anneal: Annealing,
        plans: bool,
    ) -> None:
        super().__init__(encoder, model, actions, stacks, search, gamma, shifts=False, plans=plans)
        self.anneal = counted(anneal)

    def limits(self) -> Limits | None:
        """Limits after so many learner_steps, on the device that these are counted on."""
        anneal, search = self.anneal, self.search
        if not anneal.over:
            return None
        over = int(anneal.over)
        behind = self.version.clamp(max=over)
        more = torch.div((search.horizon - anneal.first_horizon) * behind, over, rounding_mode="floor")
        std = anneal.first_std + (search.min_std - anneal.first_std) * (behind / over)
        return Limits(anneal.first_horizon + more, std)

    def metrics(self, seat: Seat) -> dict[str, float]:
        """Limits of the search, if it plans."""
        if not self.plans:
            return {}
        limits = self.limits()
        if limits is None:
            return {"plan_horizon": self.search.horizon, "plan_std": self.search.min_std}
        return {"plan_horizon": int(limits.horizon), "plan_std": float(limits.min_std)}
