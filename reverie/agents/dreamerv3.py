"""DreamerV3 as it is now: one optimiser for all, a block-diagonal memory, critics that learn from replayed rows too.

Source: Hafner, Pasukonis, Ba, Lillicrap, "Mastering diverse control tasks through world models", Nature 640, 2025
(arXiv 2301.04104v2), and the official code since.

::

    rows      o_0   o_1   ...  o_{T-1}       a window begins from the state that the replay has; the states of this
               |     |           |           update are written back into it
    states    s_0   s_1   ...  s_{T-1}       each posterior state z_t ...
                     \\
    dream             s^_0 -a_1-> s^_1 -a_2-> ... -a_H-> s^_H      ... starts a dream of H steps
                      d_0         r_1, d_1        r_H, d_H         R_i = r_{i+1} + d_{i+1} ((1-l) v_{i+1} + l R_{i+1})

Against DreamerV3 of 2023: model, actor and critic learn from one sum of losses, by LaProp with gradients clipped tensor
by tensor; REINFORCE for continuous actions too; the head for ends of episodes says gamma (1 - is_terminal), and its
probabilities are the discounts, that of the first state included; bins are in the space of rewards and values; the
critic also learns returns of replayed rows, and by them the memory; states are stored, and written back.

Differs from the paper in: nothing that is not named in a preset. See docs/dreamerv3.md.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from reverie.agents.behaviour import Behaviour, Dream
from reverie.agents.dreamer import Dreamer, DreamerLearner, DreamingConfig
from reverie.agents.dreamer_policy import DreamerPolicy
from reverie.agents.dreamer_sizes import M200, SIZES, Size
from reverie.agents.objective import Objective, Reconstruction
from reverie.agents.predictors import Discount, Estimator, Reward
from reverie.agents.recurrent import written_back
from reverie.agents.sampling_policy import SamplingPolicy
from reverie.agents.seen import Seen
from reverie.data.rows import State
from reverie.data.sequences import Batch, Feedback
from reverie.nets.actions import Actions, make_actions
from reverie.nets.block_rssm import BlockRSSM, BlockRSSMConfig
from reverie.nets.decoders import Decoder
from reverie.nets.encoders import Encoder, EncoderConfig
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import truncated_
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.outputs import Bernoulli, OneHots, Output, SquaredError, SymlogMSE, TwoHot
from reverie.nets.pooled import PooledDecoder, PooledEncoder
from reverie.nets.state_space import StateSpace
from reverie.ops.returns import future_returns, lambda_returns
from reverie.ops.stats import PercentileScale
from reverie.overrides import Choice
from reverie.values import PositiveShare, Scale, Share


@dataclass(frozen=True)
class DreamerV3Config(DreamingConfig):
    """Defaults are those of the official code. size: of all networks, by name (`reverie.agents.dreamer_sizes`).

    unimix: share of uniform in latents. entropy: scale of the actor's entropy. momentum: of the return's range.
    slow_fraction: by which the slow critic follows per learner_step; slow_scale: of the critic's loss towards it.
    replay_scale: of the critic's loss on replayed rows. opt: of everything. The KL's halves weigh kl_scale kl_balance =
    1 (dynamics) and 0.1 (representation).
    """

    size: Annotated[Size, Choice(SIZES)] = field(default_factory=M200)
    unimix: Share = 0.01
    gamma: PositiveShare = 1 - 1 / 333
    kl_balance: Share | None = 10 / 11
    kl_free: Scale = 1.0
    kl_free_per: Literal["mean", "each"] = "each"
    kl_scale: Scale = 1.1
    discount_scale: Scale = 1.0
    entropy: Scale = 3e-4
    momentum: Share = 0.99
    slow_fraction: Share = 0.02
    slow_scale: Scale = 1.0
    replay_scale: Scale = 0.3
    opt: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=4e-5, eps=1e-20, clip=float("inf"), shrink=0.0, kind="laprop", warmup=1000, agc=0.3
        )
    )


Together = Generator[dict[str, Tensor], None, Feedback | None]
"""one sum of losses, and feedback"""


class DreamerV3Learner(DreamerLearner):
    """Learner of the paper's equations, with one optimiser."""

    config: DreamerV3Config

    def draw(self, part: nn.Module) -> None:
        """Draw the first parameters of a part: truncated normals."""
        truncated_(part, "in")

    def initialise(self) -> None:
        """First parameters; rewards begin at exactly 0."""
        super().initialise()
        self.model.reward.head.scale_output(0.0)

    def make_optimisers(self) -> dict[str, Optimiser]:
        """One, of all that learns."""
        learned = [parameter for part in self.trained().values() for parameter in part]
        return {"agent": Optimiser(learned, self.config.opt, self.model.rates)}

    @property
    def reserved(self) -> tuple[str, ...]:
        """Losses beside the model's parts that a log has."""
        return (*self.optimisers, *self.trained(), "replay_critic")

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Together:
        """Loss of model and behaviour together, and what becomes of the stored states."""
        model_loss, seen, rows = self.world_model_loss(batch, metrics)
        parts = {"model": model_loss} | self.behaviour_losses(seen, rows, metrics)
        metrics.update({f"{name}_loss": loss.detach() for name, loss in parts.items()})
        yield {"agent": torch.stack(list(parts.values())).sum()}
        self.model.objective.after_update()
        self.update_slow_critics()
        return self.feedback(batch, seen)

    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """Loss of the model, and the rows that it saw.

        L = observation + reward + continuation + dynamics + 0.1 representation, each a mean over rows.
        """
        seen, rows = self.see(batch, metrics)
        with self.autocast():
            losses = self.model.losses(seen, rows, metrics)
            return self.weigh(losses, metrics), seen, rows

    def feedback(self, batch: Batch, seen: Seen) -> Feedback | None:
        """The states of this update, for the replay, if windows begin from stored ones."""
        return written_back(batch, self.windows, seen.states)


class DreamerV3Behaviour(Behaviour):
    """Actor and critics of the paper's equations."""

    pathwise = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.range = PercentileScale(self.config.momentum)

    def networks(self) -> dict[str, nn.Module]:
        """The critics and the range of returns."""
        return super().networks() | {"range": self.range}

    def drawn(self) -> list[nn.Module]:
        """Actor and critic."""
        return [self.actor, self.critic]

    def begin(self) -> None:
        """Values begin at exactly 0, the actor near uniform."""
        self.critic.head.scale_output(0.0)
        self.actor.scale_output(0.01)
        super().begin()

    def losses(self, seen: Seen, rows: Mapping[str, Tensor], metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of actor and critic, in dreams from all states that were seen, and of the critic on the rows."""
        dream = self.imagine(seen.starts(), {name: rows[name].flatten() for name in ("reward", "is_terminal")})
        returns = self.returns(dream)
        return {
            "actor": self.actor_loss(dream, returns, metrics),
            "critic": self.critic_loss(dream, returns, metrics),
            "replay_critic": self.config.replay_scale * self.replay_critic_loss(seen, rows, returns),
        }

    def imagine(self, start: State, rows: Mapping[str, Tensor]) -> Dream:
        """Dreams with rewards, discounts and values of all states, that of the start included."""
        with self.dreaming():
            features, actions, policy = self.dream(start)
            reward = self.rewards(features, actions, rows["reward"])
            discount = self.learner.model.discounts(features)
            value = self.critic.mean(features)
        return Dream(features, actions, policy, reward, discount, value)

    def returns(self, dream: Dream) -> Tensor:
        """Returns R_i for i = 0..H-1, [H, N]."""
        return future_returns(dream.reward, dream.discount, dream.value, self.config.lam)

    def weights(self, dream: Dream) -> Tensor:
        """Product of all discounts so far, [H+1, N], that of the state itself included."""
        return dream.discount.cumprod(0).detach()

    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """REINFORCE with advantages in units of the returns' range, plus entropy, weighted by `weights`.

        The action a_{i+1}, taken at s_i, is credited with R_i - v_i.
        """
        self.range.update(returns)
        out = dream.policy
        entropy = self.actions.entropy(out)
        advantage = self.range(returns - dream.value[:-1])
        objective = self.actions.log_prob(out, dream.actions.detach()) * advantage.detach()
        metrics["actor_entropy"] = entropy.mean().detach()
        metrics["return_range"] = self.range.scale()
        return -(self.weights(dream)[:-1] * (objective + self.entropy_scale * entropy)).mean()

    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Cross-entropy to R_i, and to what the slow critic says."""
        metrics["imagined_reward"] = dream.reward[1:].mean().detach()
        metrics["imagined_return"] = returns.mean().detach()
        metrics["value"] = dream.value.mean().detach()
        return (self.weights(dream)[:-1] * self.value_loss(dream.features[:-1], returns)).mean()

    def replay_critic_loss(self, seen: Seen, rows: Mapping[str, Tensor], returns: Tensor) -> Tensor:
        """The same towards lambda-returns of the rows themselves, which bootstrap from the dreams that begin there.

        Its gradient reaches the memory. Rows that end an episode have no return, the last row of a window neither.
        """
        ends = rows["is_last"], rows["is_terminal"]
        bootstrap = returns[0].view_as(rows["reward"])
        target = lambda_returns(rows["reward"], *ends, bootstrap, self.config.gamma, self.config.lam)
        return (~rows["is_last"][:-1] * self.value_loss(seen.features[:-1], target)).mean()

    def value_loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the critic at features [..., F] to a target and to the slow critic, [...]."""
        output = self.critic.output
        with self.learner.autocast():
            x, slow = self.critic.head(features), self.slow_critic.mean(features.detach())
        return output.loss(x, target) + self.config.slow_scale * output.loss(x, slow)

    def update_slow_critic(self) -> None:
        """Follow the critic by a fraction after each update."""
        with torch.no_grad():
            for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, self.config.slow_fraction)


class DreamerV3(Dreamer):
    """Recipe of DreamerV3: RMSNorm and SiLU everywhere, a block GRU, bins in the space of rewards and values."""

    config: DreamerV3Config
    Config: ClassVar[type] = DreamerV3Config
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DreamerLearner]] = DreamerV3Learner
    Behaviour: ClassVar[type[Behaviour]] = DreamerV3Behaviour

    @property
    def least_learned(self) -> int:
        """A row and the one after it, of whose reward and value the critic learns from the replay."""
        return 2

    def actions(self) -> Actions:
        """Discrete actors without any uniform, and normal continuous ones."""
        return make_actions(self.env.action, 0.0, "normal")

    def encoder(self) -> Encoder:
        """Convolutions with pooling, and an MLP for the symlog of vectors."""
        return Encoder(self.env.observation, self._code(), PooledEncoder)

    def rssm(self, embed: int, action: int) -> StateSpace:
        """A memory with a block-diagonal GRU."""
        size = self.config.size
        config = BlockRSSMConfig(size.deter, size.hidden, size.stoch, size.classes, self.config.unimix, size.blocks)
        return BlockRSSM(embed, action, config)

    def actor(self, features: int, params: int) -> Head:
        """MLP of three layers."""
        return Head(features, params, self._head(3))

    def policy_of(self, encoder: Encoder, rssm: StateSpace, actor: Head, actions: Actions) -> DreamerPolicy:
        """A policy that samples in evaluation too."""
        return SamplingPolicy(encoder, rssm, actor, actions, self.env.action_mask)

    def objective(self, features: int) -> Objective:
        """Squared errors of images and of the symlog of vectors, cross-entropies of indices."""
        size = self.config.size

        def picture(inputs: int, shape: tuple[int, ...], config: EncoderConfig) -> nn.Module:
            return PooledDecoder(size.deter, inputs - size.deter, shape, config.depth, config.units, size.blocks)

        decoder = Decoder(features, self.env.observation, self._code(), picture)
        images: dict[str, Output] = {key: SquaredError(3) for key in decoder.images}
        return Reconstruction(decoder, images | {key: _vector(space) for key, space in decoder.vectors.items()})

    def reward(self, features: int) -> Reward:
        """Distribution over bins, of one layer."""
        return Reward(features, self._head(1), TwoHot.spread())

    def discount(self, features: int) -> Discount | None:
        """Bernoulli of gamma (1 - is_terminal), of one layer."""
        return Discount(features, self._head(1), Bernoulli(), self.config.gamma)

    def critic(self, features: int) -> Estimator:
        """Distribution over bins, of three layers."""
        return Estimator(features, self._head(3), TwoHot.spread())

    def _code(self) -> EncoderConfig:
        size = self.config.size
        return EncoderConfig(size.depth, 3, size.units, "silu", "rms", symlog=True)

    def _head(self, layers: int) -> HeadConfig:
        return HeadConfig(layers, self.config.size.units, "silu", "rms")


def _vector(space: spaces.Space) -> Output:
    """What is said of an observation that is no image."""
    if isinstance(space, spaces.Discrete):
        return OneHots([int(space.n)])
    return OneHots(space.nvec.tolist()) if isinstance(space, spaces.MultiDiscrete) else SymlogMSE(1)
