"""Planning: the first of a sequence of actions that a model imagines to be worth most, by CEM or MPPI.

::

    repeat `iterations` times
        candidates a_0 ... a_{H-1} ~ N(mean, std), clipped to [-1, 1]          and the policy's, if there is one
        G = r_1 + d_1 r_2 + d_1 d_2 r_3 + ... + d_1 ... d_H V(s_H)             imagined; d_t: discount into state t
        elites = the best by G,   w_i ~ exp(temperature G_i)                   CEM: all the same
        mean, std <- sum_i w_i a_i,  sqrt(sum_i w_i (a_i - mean)^2)            over the elites

    CEM acts with the mean; MPPI with an elite, drawn by w, and it begins at its last mean:

    last plan     m_0  m_1  m_2  m_3
    next start    m_1  m_2  m_3   0           0 everywhere where an episode begins

A refitted mean may keep a share of the old one (``momentum``), and fewer decisions may count than there is room for
(`Limits`): TD-MPC has both.

Discrete and MultiDiscrete actions have independent categoricals per step and factor in place of Gaussians
(`reverie.agents.plan_search`). The papers plan continuous actions only: that part is our own.

All randomness is passed in, shapes are static and nothing waits for the device.

Source: Rubinstein 1997 (cross-entropy method) as in Hafner et al. 2019 (PlaNet), algorithm 2 and its code; Williams et
al. 2015 (MPPI) as in Hansen et al. 2022 (TD-MPC), algorithm 1, and Hansen et al. 2024 (TD-MPC2) and its code.
Differs from TD-MPC2 in: a candidate whose return is NaN ranks last, where its code counts it as 0; the noise that it
adds to the action in training is left to the caller, who finds its size in `Plan.std`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.agents.plan_search import Spread, make_search
from reverie.agents.plan_worth import DrawsValues, Model, Policy, followed, imagined_returns
from reverie.data.rows import State
from reverie.nets.actions import Actions
from reverie.ops.categorical import sample_categorical
from reverie.ops.loop import Tensors, loop
from reverie.values import Count, Number, Scale


@dataclass(frozen=True)
class PlanConfig(Spread):
    """Defaults are TD-MPC2's; `PLANET` has the other paper's. The width of the search: see `Spread`.

    method: ``cem`` weighs all elites the same and acts with their mean, ``mppi`` as the module says.
    horizon: decisions that are planned. iterations: refits. candidates: sequences per iteration, with the policy's.
    elites: how many of them the next refit is made of. temperature: in 1 / units of returns, multiplies these in the
        weights of elites; mppi only, 0 with cem.
    policy_candidates: how many of the candidates come from a policy that is rolled out in the model once; the same in
        every iteration.

    Source: TD-MPC2 code, config.yaml (with 20 or more action dimensions: 8 iterations). `TDMPC` has TD-MPC's.
    Raises ValueError for numbers that do not fit.
    """

    method: Literal["cem", "mppi"] = "mppi"
    horizon: Count = 3
    iterations: Count = 6
    candidates: Count = 512
    elites: Count = 64
    temperature: Scale = 0.5
    policy_candidates: Number = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in ("cem", "mppi"):
            raise ValueError(f"method must be 'cem' or 'mppi', got {self.method!r}")
        for name in ("horizon", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.elites <= self.candidates:
            raise ValueError(f"elites must be from 1 to candidates {self.candidates}, got {self.elites}")
        if not 0 <= self.policy_candidates < self.candidates:
            raise ValueError(
                f"policy_candidates must be from 0 to less than candidates {self.candidates}, "
                f"got {self.policy_candidates}"
            )
        if (self.method == "mppi") != (self.temperature > 0.0) or self.temperature < 0.0:
            raise ValueError(f"temperature must be positive with mppi and 0 with cem, got {self.temperature}")


PLANET = PlanConfig(
    method="cem",
    horizon=12,
    iterations=10,
    candidates=1000,
    elites=100,
    temperature=0.0,
    policy_candidates=0,
    start_std=1.0,
    min_std=1e-3,
    floor="added",
)
"""PlaNet's, code c04226b. It begins anew at every decision (`before` is None) and its rewards are not discounted."""

TDMPC = PlanConfig(horizon=5, candidates=537, policy_candidates=25, momentum=0.1)
"""TD-MPC's, code f4d85ec: 512 drawn sequences and 25 of the policy's. Horizon and min_std are those of after annealing,
see `Limits`."""


@dataclass(frozen=True)
class Limits:
    """Limits of a search that change over a run, as tensors, so that shapes and exported graphs stay what they are.

    horizon: int64 [], decisions that count, from 1 to `PlanConfig.horizon`; what is imagined after them pays nothing,
    and the value is that of the state after them. The mean of the steps after them is that of a fresh start.
    min_std: float32 [], in place of `Spread.min_std`.
    Source: Hansen et al. 2022 (TD-MPC), appendix on hyper-parameters: both are annealed.
    """

    horizon: Tensor
    min_std: Tensor


@dataclass(frozen=True)
class Plan:
    """Plan of B streams, of encoded actions: what the next call begins with, and what there is to show.

    mean, std: float32 [B, H, A], of the last refit, not shifted yet; of discrete actions the mean is the probabilities.
    value: float32 [B], return of the elites, weighted.
    """

    mean: Tensor
    std: Tensor
    value: Tensor


def plan_noise(config: PlanConfig, actions: Actions, noise: int = 0, value_noise: tuple[int, int] = (0, 0)) -> int:
    """Number of uniform numbers that the planning of one stream takes.

    noise, value_noise: of the model, `Imagines.noise` and `DrawsValues.value_noise`.
    """
    return sum(_noise_sizes(config, actions, noise, value_noise))


def _noise_sizes(config: PlanConfig, actions: Actions, noise: int, value_noise: tuple[int, int]) -> list[int]:
    """Numbers of the drawn candidates, the policy, the model with candidates, the model with the policy, the values,
    what values share, the choice."""
    draws, proposals = config.candidates - config.policy_candidates, config.policy_candidates
    return [
        config.iterations * draws * config.horizon * actions.noise,
        proposals * config.horizon * actions.noise,
        config.iterations * config.candidates * config.horizon * noise,
        proposals * config.horizon * noise,
        config.iterations * config.candidates * value_noise[0],
        config.iterations * value_noise[1],
        1,
    ]


def plan(
    model: Model,
    state: State,
    actions: Actions,
    config: PlanConfig,
    u: Tensor,
    before: Plan | None = None,
    first: Tensor | None = None,
    policy: Policy | None = None,
    limits: Limits | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Plan]:
    """The encoded action [B, A] to take now in each of B streams, and the plan that it begins.

    state: name -> [B, ...], what the streams are in. actions: encoding of the space, Box in [-1, 1] or discrete.
    u: uniform in [0, 1), [B, plan_noise(config, actions, model.noise, model.value_noise)], the last of `DrawsValues`.
    before: the plan of the last decision, to begin with its mean; None begins anew. first: bool [B], where an episode
    begins, so that `before` is another one's. policy: proposes `config.policy_candidates` of the candidates.
    limits: of this call, see `Limits`; None: those of the configuration.
    mask: float32 [B, A] of 0 and 1, actions that a stream has; the others are 0 in candidates and plans, with std 0.
        Of a Box; None: all. Source: TD-MPC2 code, ``_plan`` with several tasks.
    No gradient. A candidate whose return is NaN ranks last; where too few are left, the value and the action are NaN.
    Raises ValueError if shapes do not fit, or if a policy is missing or has nothing to propose.
    """
    if torch.is_grad_enabled():  # Switched only where it must be: exported programs hold no switches around a scan.
        with torch.no_grad():
            return plan(model, state, actions, config, u, before, first, policy, limits, mask)
    streams, noise = u.shape[0], model.noise
    own, shared = model.value_noise if isinstance(model, DrawsValues) else (0, 0)
    sizes = _noise_sizes(config, actions, noise, (own, shared))
    if u.dim() != 2 or u.shape[1] != sum(sizes):
        raise ValueError(f"u must be [B, {sum(sizes)}] uniform numbers, got {tuple(u.shape)}")
    if wrong := {name: tuple(x.shape) for name, x in state.items() if x.shape[:1] != (streams,)}:
        raise ValueError(f"states must begin with an axis of {streams} streams as u does, got {wrong}")
    if (policy is not None) != (config.policy_candidates > 0):
        article = "no" if policy is None else "a"
        raise ValueError(f"got {article} policy with policy_candidates {config.policy_candidates}")
    u_draws, u_policy, u_model, u_followed, u_own, u_shared, u_choice = u.split(sizes, -1)
    u_draws = u_draws.view(streams, config.iterations, -1, config.horizon, actions.noise)
    u_model = u_model.view(streams, config.iterations, config.candidates, config.horizon, noise)
    proposals = None
    if policy is not None:
        shape = (streams, config.policy_candidates, config.horizon)
        proposals = followed(model, policy, state, u_policy.view(*shape, -1), u_followed.view(*shape, noise))

    horizon = None if limits is None else limits.horizon
    search = make_search(actions, config, None if limits is None else limits.min_std)
    mean, std = search.start(streams, config.horizon, u.device, None if before is None else before.mean, first)

    def refit(spread: Tensors, given: Tensors) -> tuple[Tensors, Tensors]:
        """Mean and std of the elites; and the elites, with their returns and weights."""
        candidates = search.draw(spread["mean"], spread["std"], given["draws"])
        if proposals is not None:
            candidates = torch.cat([proposals, candidates], 1)
        if mask is not None:
            candidates = candidates * mask[:, None, None]
        numbers = (given.get("model"), given.get("own"), given.get("shared"))
        returns = imagined_returns(model, state, candidates, *numbers, horizon)
        returns = torch.where(returns.isnan(), -torch.inf, returns)
        best, index = returns.topk(config.elites, -1)
        elites = candidates.gather(1, index[..., None, None].expand(-1, -1, *candidates.shape[2:]))
        # With temperature 0 all are the same, and NaN if one of them is -inf.
        weights = (config.temperature * best).softmax(-1)
        mean, std = search.refit(elites, weights, spread["mean"])
        if mask is not None:
            mean, std = mean * mask[:, None], std * mask[:, None]
        return {"mean": mean, "std": std}, {"elites": elites, "best": best, "weights": weights}

    given = {"draws": u_draws.transpose(0, 1)}
    if noise:
        given["model"] = u_model.transpose(0, 1)
    if own:
        given["own"] = u_own.view(streams, config.iterations, config.candidates, own).transpose(0, 1)
    if shared:
        given["shared"] = u_shared.view(streams, config.iterations, shared).transpose(0, 1)
    spread, last = loop(refit, {"mean": mean, "std": std}, given)
    mean, std = spread["mean"], spread["std"]
    if horizon is not None:
        counts = torch.arange(config.horizon, device=u.device) < horizon
        mean = torch.where(counts[:, None], mean, search.fresh(u.device))
    elites, best, weights = last["elites"], last["best"], last["weights"]
    # An elite without a return weighs nothing, but 0 * -inf is NaN.
    value = torch.where(weights == 0.0, 0.0, weights * best).sum(-1)
    if config.method == "cem":
        action = search.mode(mean[:, 0])
    else:
        elite = sample_categorical(weights.log(), u_choice[:, 0])
        action = elites[:, :, 0].gather(1, elite[:, None, None].expand(-1, 1, actions.size))[:, 0]
    return torch.where(value.isnan()[:, None], torch.nan, action), Plan(mean, std, value)
