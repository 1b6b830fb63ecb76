"""Latent overshooting: open-loop predictions over several steps are held to what the model says once it has seen.

::

    rows            t-1       t       t+1       t+2
    posteriors      q_{t-1}   q_t     q_{t+1}   q_{t+2}
    prediction      s_{t-1} -> p^0_t -> p^1_{t+1} -> p^2_{t+2}          KL(sg(q_{t+k}) || p^k_{t+k}), k = 1 ... D

k = 0, a single step without looking, is the model's own KL. Predictions begin at samples of all posteriors and at the
beginnings of episodes, and count as long as no new episode begins on their way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.agents.seen import Seen
from reverie.nets.state_space import OneChain
from reverie.ops.losses import masked_mean


def overshooting_kl(rssm: OneChain, seen: Seen, is_first: Tensor, u: Tensor, free: float) -> Tensor:
    """Mean over k = 1..D of the mean over rows of max(KL(sg(q_{t+k}) || p^k_{t+k}), free), a scalar, nats.

    is_first: bool [T, B]. u: uniform [D + 1, T, B, latent noise]; u[k, t] is of prediction k that begins before row t.
    free: nats per row, as PlaNet has them. Posteriors get no gradient as targets, but as what predictions begin from.
    A window whose first row is none of an episode begins no prediction there: what was before it is not at hand.

    Source: Hafner et al. 2019 (PlaNet), equation 7 with equal weights, and its code (tools/overshooting.py), in which
    `overshooting` is D.
    """
    time, width = is_first.shape
    # Before each row: the posterior of the row before and the action that followed, or the beginning of an episode.
    shifted = {name: F.pad(value[:-1], (0, 0, 0, 0, 1, 0)) for name, value in seen.states.items()}
    state, first_action = rssm.begin(shifted, seen.action, is_first, rssm.first_state())
    valid = torch.cat([is_first[:1], torch.ones_like(is_first[1:])])
    target = [part.detach() for part in seen.posterior]
    losses = []
    for k in range(min(len(u), time)):
        # Of predictions that begin before the rows 0 ... count - 1: they are about the rows k ... T - 1.
        count = time - k
        before = {name: value[:count].flatten(0, 1) for name, value in state.items()}
        action = seen.action[k:] if k else first_action
        deter = rssm.advance(before, action.flatten(0, 1))
        prior = rssm.prior(deter)
        after = {"deter": deter, "stoch": rssm.latent.sample(prior, u[k, :count].flatten(0, 1))}
        state = {name: value.unflatten(0, (count, width)) for name, value in after.items()}
        if k:
            valid = valid[:count] & ~is_first[k:]
            kl = rssm.latent.kl(*(part[k:].flatten(0, 1) for part in target), *prior)
            losses.append(masked_mean(kl.clamp(min=free).unflatten(0, (count, width)), valid))
    return torch.stack(losses).mean()
