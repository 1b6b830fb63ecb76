"""Loss terms: balanced KL with free nats, squared and Huber errors, quantile regression, masked means.

Targets carry no gradient here, whoever made them. Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from reverie.ops import world
from reverie.ops.precision import full

Params = Sequence[Tensor] | Mapping[str, Tensor]
"""Parameters of a distribution: (logits,), (mean, std), or a mapping of them."""


def _aligned(post: Params, prior: Params) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters of both as lists in one order: that of the sequence, or of post's keys."""
    if isinstance(post, Mapping) and isinstance(prior, Mapping):
        if post.keys() != prior.keys():
            raise ValueError(f"post and prior must have the same parameters, got {list(post)} and {list(prior)}")
        return list(post.values()), [prior[name] for name in post]
    if isinstance(post, Mapping) or isinstance(prior, Mapping):
        raise ValueError("post and prior must both be mappings or both be sequences")
    return list(post), list(prior)


def kl_halves(kl_fn: Callable[..., Tensor], post: Params, prior: Params) -> tuple[Tensor, Tensor]:
    """The two one-sided divergences: KL(post || sg(prior)) moves the posterior, KL(sg(post) || prior) the prior.

    Their values are equal; only the gradients differ. DreamerV3 calls them the representation and the dynamics loss.
    kl_fn: called as kl_fn(*post, *prior), half precision raised to float32; sums over the latent variables itself.
    post, prior: parameters of the two distributions. Returns two tensors of kl_fn's shape, usually [T, B], nats.
    Raises ValueError if post and prior do not have the same parameters.
    Source: Hafner et al. 2021 (DreamerV2), algorithm 2; Hafner et al. 2023 (DreamerV3), "World model learning".
    """
    of_post, of_prior = ([full(x) for x in side] for side in _aligned(post, prior))
    to_posterior = kl_fn(*of_post, *(x.detach() for x in of_prior))
    to_prior = kl_fn(*(x.detach() for x in of_post), *of_prior)
    return to_posterior, to_prior


def balanced_kl(
    kl_fn: Callable[..., Tensor],
    post: Params,
    prior: Params,
    balance: float | None,
    free_nats: float,
    free: Literal["mean", "each"] = "mean",
) -> tuple[Tensor, Tensor]:
    """KL(post || prior), its gradient shared out between the two, and ignored below a threshold.

    L = (1 - balance) max(KL(post || sg(prior)), free_nats) + balance max(KL(sg(post) || prior), free_nats).

    kl_fn, post, prior: as in `kl_halves`. balance: in [0, 1], the prior's share (DreamerV2: 0.8); None is the plain
    KL(post || prior), whose gradient reaches both sides in full. free_nats: threshold per row, at least 0.
    free: "mean" takes the mean over all rows before the maximum (DreamerV1, V2), "each" after it (PlaNet, DreamerV3).
    Returns (loss, mean KL without gradient), both scalars, nats.
    Raises ValueError if free is neither, or as `kl_halves`.
    Source: Hafner et al. 2021 (DreamerV2), algorithm 2.
    """
    if free not in ("mean", "each"):
        raise ValueError(f"free must be 'mean' or 'each', got {free!r}")

    def clipped(kl: Tensor) -> Tensor:
        return world.floored_mean(kl, free_nats) if free == "mean" else kl.clamp(min=free_nats).mean()

    if balance is None:
        of_post, of_prior = ([full(x) for x in side] for side in _aligned(post, prior))
        kl = kl_fn(*of_post, *of_prior)
        return clipped(kl), kl.detach().mean()
    to_posterior, to_prior = kl_halves(kl_fn, post, prior)
    loss = (1.0 - balance) * clipped(to_posterior) + balance * clipped(to_prior)
    return loss, to_posterior.detach().mean()


def _error(prediction: Tensor, target: Tensor) -> Tensor:
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    return full(target).detach() - full(prediction)


def td_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """(target - prediction)^2 / 2, elementwise. Raises ValueError if the shapes differ."""
    return 0.5 * _error(prediction, target).square()


def huber(prediction: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """e^2 / 2 for |e| <= delta, delta (|e| - delta / 2) beyond, with e = target - prediction; elementwise.

    Its gradient is the squared loss's clipped to +-delta, which is what DQN's "error clipping" means.
    Raises ValueError if the shapes differ.
    Source: Mnih et al. 2015 (DQN), Methods, "Training algorithm".
    """
    return _huber(_error(prediction, target), delta)


def _huber(error: Tensor, delta: float) -> Tensor:
    size = error.abs()
    inner = size.clamp(max=delta)
    return inner * (size - 0.5 * inner)


def quantile_huber(quantiles: Tensor, taus: Tensor, targets: Tensor, kappa: float = 1.0) -> Tensor:
    """Quantile regression towards a set of target samples.

    L = sum_i mean_j |tau_i - 1[e_ij < 0]| huber_kappa(e_ij) / kappa,   e_ij = target_j - quantile_i.

    quantiles: [..., N] predicted. taus: [..., N] or [N], their levels in (0, 1). targets: [..., M]. kappa: positive.
    Returns [...]. Raises ValueError if the leading axes differ.
    Source: Dabney et al. 2018 (QR-DQN), equation 10 and algorithm 1; Dabney et al. 2018 (IQN) with random levels.
    """
    if quantiles.shape[:-1] != targets.shape[:-1] or taus.shape[-1] != quantiles.shape[-1]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (quantiles, taus, targets))
        raise ValueError(f"quantiles [..., N], taus [..., N] and targets [..., M] must agree, got {shapes}")
    error = full(targets).detach().unsqueeze(-2) - full(quantiles).unsqueeze(-1)
    weight = (full(taus).unsqueeze(-1) - (error < 0).to(error.dtype)).abs().detach()
    return (weight * _huber(error, kappa) / kappa).mean(-1).sum(-1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the entries where mask is true, 0 if there are none; what is masked may be NaN.

    Where processes share a batch, they divide by the count of all of them (`reverie.ops.world`).

    x: [...]. mask: bool [...], the same shape (for example ~is_last). Returns a scalar.
    Raises ValueError if the shapes differ.
    """
    if x.shape != mask.shape:
        raise ValueError(f"x and mask must have one shape, got {tuple(x.shape)} and {tuple(mask.shape)}")
    mask = mask.bool()
    return world.ratio(torch.where(mask, full(x), 0.0).sum(), mask)
