"""Optimisation: Adam, RMSProp or LaProp, clipping by the global norm or per tensor, decoupled weight shrink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reverie.nets.adam import Adam
from reverie.nets.laprop import LaProp, clip_adaptively_
from reverie.nets.rmsprop import CentredRMSProp, RMSProp
from reverie.nets.rule import Rule
from reverie.nets.schedule import check, counted, schedule
from reverie.ops.host import at_hand

RULES: dict[str, Callable[..., Rule]] = {
    "adam": Adam,
    "laprop": LaProp,
    "rmsprop": CentredRMSProp,
    "rmsprop-tf": RMSProp,
}


@dataclass(frozen=True)
class OptimConfig:
    """lr: learning rate. eps: of the optimiser. clip: maximum global gradient norm (inf: none).

    shrink: w <- (1 - shrink) w per update, not scaled by lr.
    kind: ``adam``, ``rmsprop`` as DQN's (centred, decay 0.95, eps inside the root), ``rmsprop-tf`` as A2C's and
        IMPALA's (not centred, decay 0.99, eps inside the root, squares that begin at one), or ``laprop`` as
        DreamerV3's (`reverie.nets.laprop`).
    agc: maximum gradient norm of each tensor, as a share of the tensor's own norm (0: none).
    lr_end, lr_over: the learning rate goes linearly from lr to lr_end over that share of the run or that many
        learner_steps (0: it stays), see `reverie.nets.schedule`.
    warmup: share or learner_steps over which it first rises linearly from 0 (0: none); the first update has rate 0.
    """

    lr: float = 1e-4
    eps: float = 1e-5
    clip: float = 100.0
    shrink: float = 1e-6
    kind: Literal["adam", "rmsprop", "rmsprop-tf", "laprop"] = "adam"
    lr_end: float = 0.0
    lr_over: float = schedule("learner_steps")
    warmup: float = schedule("learner_steps")
    agc: float = 0.0

    def __post_init__(self) -> None:
        check(self)
        for name in ("lr", "eps", "agc", "lr_end"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if not self.clip > 0.0:
            raise ValueError(f"clip must be above 0, inf for no clipping, got {self.clip}")
        if not 0.0 <= self.shrink < 1.0:
            raise ValueError(f"shrink must be at least 0 and below 1, got {self.shrink}")

    @property
    def changes(self) -> bool:
        """Whether the learning rate changes."""
        return bool(self.lr_over or self.warmup)


class Optimiser:
    """One optimiser for the parameters of one loss. Host synchronisation never happens: the norm stays a tensor.

    rates: learning rates of parameters that have one of their own, constant whatever ``lr_over`` says. shares: of
    parameters that have a share of the configured one, which changes with it. Clip, shrink and eps are those of all.
    Which parameter has which rate is not saved: it follows from the code that makes this.
    Raises ValueError for a rate of a parameter that is not among `parameters` or that has a share too, and for a
    schedule that is not resolved.
    Source: DreamerV2 code, common.Optimizer: clip, decay of *every* variable (pattern ``.*``), Adam(eps=1e-5).
    Differs in: Keras' Adam adds eps before bias correction (epsilon hat), PyTorch's after it.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        config: OptimConfig,
        rates: Mapping[nn.Parameter, float] | None = None,
        shares: Mapping[nn.Parameter, float] | None = None,
    ) -> None:
        self.parameters = list(parameters)
        self.tensors: list[Tensor] = list(self.parameters)
        self.config = counted(config)
        groups = self._groups(rates or {}, shares or {})
        if config.changes and self.parameters[0].is_cuda:
            for group in groups[: len(self.shares)]:  # In memory, where a recorded step reads it.
                group["lr"] = torch.tensor(group["lr"], device=self.parameters[0].device)
        self.rule: Rule = RULES[config.kind](groups, config.lr, eps=config.eps)

    def _groups(
        self, rates: Mapping[nn.Parameter, float], shares: Mapping[nn.Parameter, float]
    ) -> list[dict[str, Any]]:
        """Parameter groups for the rule: of the configured learning rate, of shares of it, then of other rates."""
        owned = set(self.parameters)
        if not owned.issuperset([*rates, *shares]):
            raise ValueError("learning rates are given for parameters that this optimiser does not have")
        if not rates.keys().isdisjoint(shares):
            raise ValueError("a parameter has a learning rate of its own and a share of the others'")
        own = [p for p in self.parameters if p not in rates and p not in shares]
        self.shares = [1.0, *dict.fromkeys(shares.values())]
        """of the first parameter groups, as many as change with the configured learning rate"""
        groups: list[dict[str, Any]] = [{"params": own, "lr": self.config.lr}]
        for share in self.shares[1:]:
            groups.append(
                {"params": [p for p in self.parameters if shares.get(p) == share], "lr": share * self.config.lr}
            )
        for lr in dict.fromkeys(rates.values()):
            groups.append({"params": [p for p in self.parameters if rates.get(p) == lr], "lr": lr})
        return groups

    def rate(self, learner_steps: int) -> float:
        """The learning rate of the step after `learner_steps`, for parameters without a rate of their own."""
        config = self.config
        progress = min(learner_steps / config.lr_over, 1.0) if config.lr_over else 0.0
        rate = config.lr + (config.lr_end - config.lr) * progress
        return rate * min(learner_steps / config.warmup, 1.0) if config.warmup else rate

    def schedule(self, learner_steps: int) -> None:
        """Set the learning rate of the step that follows; to be called before each `step`."""
        if not self.config.changes:
            return
        now = self.rate(learner_steps)
        for group, share in zip(self.rule.param_groups[: len(self.shares)], self.shares, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(share * now)
            else:
                group["lr"] = share * now

    def step(self) -> Tensor:
        """Norm (0-d) of the gradients before clipping; they are used for one step, then cleared."""
        norm = clip_by_norm_([p.grad for p in self.parameters if p.grad is not None], self.config.clip)
        if self.config.agc:
            clip_adaptively_(self.parameters, self.config.agc)
        if self.config.shrink:
            with torch.no_grad():
                torch._foreach_mul_(self.tensors, 1 - self.config.shrink)
        self.rule.step()
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def take(self) -> Tensor:
        """Gradients of all parameters one after another, [n], which are cleared: another optimiser steps on them.

        A parameter that has none counts as one whose gradient is zero.
        """
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return torch.cat([grad.detach().reshape(-1) for grad in grads])

    def put(self, grads: Tensor) -> None:
        """Have the gradients [n] of all parameters, one after another, for the next `step`; the inverse of `take`.

        Raises ValueError if they are of other parameters.
        """
        sizes = [p.numel() for p in self.parameters]
        if grads.shape != (sum(sizes),):
            raise ValueError(f"gradients must be [{sum(sizes)}], got {list(grads.shape)}")
        for parameter, part in zip(self.parameters, grads.split(sizes), strict=True):
            # The memory layout of the parameter: fused kernels walk them together.
            parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))

    def state_dict(self, names: Mapping[Tensor, str]) -> dict[str, dict[str, Tensor]]:
        """Moments and counts by parameter: name -> moment -> tensor; no moments before the first step."""
        return {names[p]: dict(self.rule.state.get(p, {})) for p in self.parameters}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]], names: Mapping[Tensor, str]) -> None:
        """Inverse of `state_dict`; moments of before go. Raises KeyError for parameters that are missing or unknown."""
        own = {names[p]: p for p in self.parameters}
        if set(state) != set(own):
            missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
            raise KeyError(f"moments of {missing[:3]} are missing, those of {unknown[:3]} are of no parameter here")
        for name, moments in state.items():
            parameter = own[name]
            self.rule.state.pop(parameter, None)
            for moment, value in moments.items():
                # Moments must have their parameter's memory layout: the fused kernel walks them together.
                like = parameter if value.shape == parameter.shape else torch.empty_like(value, device=parameter.device)
                self.rule.state[parameter][moment] = torch.empty_like(like, dtype=value.dtype).copy_(value)


@torch.no_grad()
def clip_by_norm_(grads: list[Tensor], most: float) -> Tensor:
    """Norm [] of all gradients together; where it is above `most` they are scaled to it.

    The numbers of `torch.nn.utils.clip_grad_norm_`, g <- g min(most / (norm + 1e-6), 1), for tensors of one device and
    dtype, without looking at each.
    """
    if not grads:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    if not at_hand(factor) or factor.item() != 1.0:
        torch._foreach_mul_(grads, factor)
    return norm
