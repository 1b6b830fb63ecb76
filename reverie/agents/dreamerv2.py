"""DreamerV2: learn a world model with categorical latents, then an actor and a critic inside its dreams.

Source: Hafner, Lillicrap, Norouzi, Ba, "Mastering Atari with Discrete World Models", ICLR 2021 (arXiv 2010.02193).

::

    rows      o_0   o_1   ...  o_{T-1}          each posterior state z_t ...
               |     |           |
    states    s_0   s_1   ...  s_{T-1}
                     \\
    dream             s^_0 -a_1-> s^_1 -a_2-> ... -a_H-> s^_H      ... starts a dream of H steps
                      r_0, d_0    r_1, d_1         r_H, d_H        R_i = r_i + d_i ((1-l) v_{i+1} + l R_{i+1})

The value of a state contains the reward predicted *at* that state (reward on arrival), as in the official code.

Differs from the paper in: nothing that is not named in a preset; from the official code in: noise is drawn per update
from one generator, windows may cross episode ends (the state is reset at is_first), Adam's eps is added after bias
correction. See docs/dreamerv2.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.behaviour import Behaviour, Dream
from reverie.agents.dreamer import Dreamer, DreamerConfig, DreamerLearner
from reverie.agents.objective import Objective, Reconstruction
from reverie.agents.predictors import Discount, Estimator, Reward
from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.data.sequences import Batch
from reverie.nets.decoders import Decoder
from reverie.nets.outputs import Bernoulli, UnitNormal
from reverie.ops.returns import imagined_returns, trajectory_weights
from reverie.values import Count, Scale, Several, Share


@dataclass(frozen=True)
class DreamerV2Config(DreamerConfig):
    """Defaults are the paper's Atari agent as its code released it.

    actor_grad: reinforce, dynamics, both (mixed), or auto (reinforce if discrete, dynamics if not).
    actor_mix: share of the dynamics in both.
    entropy: scale of the actor's entropy. target_every, target_fraction: slow critic (hard copy at fraction 1).
    """

    horizon: Several = 15
    actor_grad: Literal["auto", "reinforce", "dynamics", "both"] = "auto"
    actor_mix: Share = 0.1
    entropy: Scale = 1e-3
    target_every: Count = 100
    target_fraction: Share = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon < 2:
            raise ValueError(f"horizon must be >= 2 (the last two dream states train no action), got {self.horizon}")


class DreamerV2Learner(DreamerLearner):
    """Learner of the paper's equations."""

    config: DreamerV2Config

    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """Loss of the model, and the rows that it saw.

        Equation 2: L = observation + reward + discount_scale discount + kl_scale KL, each a mean over rows.
        """
        seen, rows = self.see(batch, metrics)
        with self.autocast():
            losses = self.model.losses(seen, rows, metrics)
            return self.weigh(losses, metrics), seen, rows


class DreamerV2Behaviour(Behaviour):
    """Actor and critics of the paper's equations."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        auto = "reinforce" if self.actions.discrete else "dynamics"
        self.actor_grad = auto if self.config.actor_grad == "auto" else self.config.actor_grad
        self.pathwise = self.actor_grad != "reinforce"

    def imagine(self, start: State, rows: Mapping[str, Tensor]) -> Dream:
        """Dreams of section 2.2, with rewards, discounts and slow values of all states, that of the start included."""
        model = self.learner.model
        with self.dreaming():
            features, actions, policy = self.dream(start)
            reward = self.rewards(features, actions, rows["reward"])
            discount = model.discounts(features)
            if model.discount is not None:
                # The first state is real: whether the episode ended there is known.
                first = self.config.gamma * (~rows["is_terminal"]).float()
                discount = torch.cat([first.unsqueeze(0), discount[1:]])
            value = self.slow_critic.mean(features)
        return Dream(features, actions, policy, reward, discount, value)

    def returns(self, dream: Dream) -> Tensor:
        """Returns R_i of equation 4 for i = 0..H-1, [H, N]."""
        return imagined_returns(dream.reward, dream.discount, dream.value, self.config.lam)

    def weights(self, dream: Dream) -> Tensor:
        """Probability of still being in the episode, times gamma^i, [H+1, N]; w_0 = 1."""
        return trajectory_weights(dream.discount)

    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of equation 6: a mix of REINFORCE and dynamics backpropagation, plus entropy, weighted by `weights`.

        The action a_{i+1}, taken at s_i, is credited with R_{i+1}; its baseline is the slow critic at s_i.
        """
        out = dream.policy[:-1]
        entropy = self.actions.entropy(out)
        if self.actor_grad == "dynamics":
            objective = returns[1:]
        else:
            advantage = (returns[1:] - dream.value[:-2]).detach()
            objective = self.actions.log_prob(out, dream.actions[:-1].detach()) * advantage
            if self.actor_grad == "both":
                mix = self.config.actor_mix
                objective = mix * returns[1:] + (1 - mix) * objective
        metrics["actor_entropy"] = entropy.mean().detach()
        weights = self.weights(dream)[:-2].detach()
        return -(weights * (objective + self.entropy_scale * entropy)).mean()

    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Loss of equation 5, the negative log-likelihood of N(V(s_i), 1), i = 0..H-1."""
        with self.learner.autocast():
            x = self.critic.head(dream.features[:-1].detach())
        metrics["imagined_reward"] = dream.reward.mean().detach()
        metrics["imagined_return"] = returns.mean().detach()
        metrics["value"] = self.critic.output.mean(x).mean().detach()
        return (self.weights(dream)[:-1] * self.critic.output.loss(x, returns)).mean()

    def update_slow_critic(self) -> None:
        """Copy the critic after update 0, target_every, ...; a lerp by 0 otherwise, so that shapes are static."""
        due = torch.eq(self.learner.policy.version % self.config.target_every, 0).float()
        with torch.no_grad():
            for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, due * self.config.target_fraction)


class DreamerV2(Dreamer):
    """Recipe of DreamerV2: Gaussians for observations and rewards, a Bernoulli for discounts."""

    config: DreamerV2Config
    Config: ClassVar[type] = DreamerV2Config
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]] = DreamerV2Learner
    Behaviour: ClassVar[type[Behaviour]] = DreamerV2Behaviour

    def objective(self, features: int) -> Objective:
        """Reconstruction of every observation."""
        return Reconstruction.gaussian(
            Decoder(features, self.env.observation, self.config.decoder), self.config.constant
        )

    def reward(self, features: int) -> Reward:
        """Gaussian N(f(r), 1)."""
        config = self.config
        return Reward(features, config.reward, UnitNormal(0, config.constant), config.reward_transform)

    def discount(self, features: int) -> Discount | None:
        """Bernoulli of gamma (1 - is_terminal), if it is predicted at all."""
        config = self.config
        return Discount(features, config.discount, Bernoulli(), config.gamma) if config.predict_discount else None

    def critic(self, features: int) -> Estimator:
        """N(V(s), 1)."""
        return Estimator(features, self.config.critic, UnitNormal())
