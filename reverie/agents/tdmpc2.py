"""TD-MPC2: plan in a latent model that was never asked for a picture, with values for what follows the plan.

Source: Hansen, Su, Wang, "TD-MPC2: Scalable, Robust World Models for Continuous Control", ICLR 2024 (arXiv 2310.16828),
and the official code.

::

    rows      o_0        o_1        o_2        o_3             H = 3 decisions a_0 a_1 a_2, rewards r_1 r_2 r_3
               |          |          |          |
    encoder   z_0        h_1        h_2        h_3             h without a gradient
               \\
    rollout     -a_0-> z_1 -a_1-> z_2 -a_2-> z_3               one encoding, then dynamics alone

    target_t   = r_{t+1} + gamma (1 - terminal_{t+1}) min of two of Q'_1..5 (h_{t+1}, a ~ p(h_{t+1}))
    model      = 1/H sum_t rho^t [ 20 |z_{t+1} - h_{t+1}|^2 / L + 0.1 CE(R(z_t, a_t), r_{t+1})
                                  + 0.1 mean_k CE(Q_k(z_t, a_t), target_t) ]     (+ BCE(T(z_{t+1}), terminal_{t+1}))
    actor      = -1/(H+1) sum_t rho^t [ mean of two of Q_1..5 (z_t, a) / S + 1e-4 entropy ],    a ~ p(z_t), z fixed
    acting     : MPPI over H steps with the mean of two Q at its end (`reverie.agents.plan`, `LatentPolicy`)

CE is the cross-entropy to the two bins around symlog of the target. S follows the range of Q (`RunningScale`). The
entropy is A times that of the Gaussian *before* it is squashed: in the official code the correction for the squashing
cancels. Every update moves Q' by 1 % towards Q. Random pairs of critics are drawn once for all rows of an update.

Several tasks (`reverie.nets.task_table`): all networks also read an embedding e_k of the task, learned with the model,
|e_k| <= 1; gamma is each task's own; the prior, candidates and entropies leave out the actions that a task lacks.

Differs from the paper in: nothing that is not named in docs/tdmpc2.md.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.agents.inputs import Stacks
from reverie.agents.latent_planner import LatentLearner, LatentPlanner, LatentPlannerConfig
from reverie.agents.latent_policy import LatentModel, LatentPolicy
from reverie.agents.plan import PlanConfig
from reverie.agents.tdmpc2_model import ModelConfig, SimplicialModel, pair
from reverie.agents.tdmpc2_sizes import M5, SIZES, Size
from reverie.data.rows import TASK, State
from reverie.data.sequences import SequenceSpec
from reverie.nets.actions import ContinuousActions
from reverie.nets.encoders import is_image
from reverie.nets.latent_encoder import LatentEncoder, SimplicialEncoder
from reverie.nets.layers import frozen
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.task_table import TaskTable
from reverie.ops.losses import masked_mean
from reverie.ops.stats import RunningScale
from reverie.overrides import Choice
from reverie.values import Count, Number, Positive, Scale, Share

WIDE = 20
"""action dimensions from which on `TDMPC2Config.wide_iterations` are added"""


@dataclass(frozen=True)
class TDMPC2Config(ModelConfig, LatentPlannerConfig):
    """Settings; defaults are the official code's. size: of all networks, by name (`reverie.agents.tdmpc2_sizes`).

    shift: pixels by which images are shifted at random, at most, in training and in acting.
    wide_iterations: iterations that the search has beyond its own with 20 action dimensions or more.
    episode_length: env_steps of an episode, from which the discount follows, see `gamma`.
    episode_lengths: of each of several tasks, in their order; empty: all have `episode_length`.
    task_size: numbers of a task's embedding, where there are several.
    gamma_share, gamma_min, gamma_max: of the rule that makes the discount of it.
    end_scale: weight of the loss of ends, beside the model's others. entropy: scale of the prior's entropy.
    tau: by which the slow critics, and the range of Q, follow per learner_step.
    encoder_lr: of the encoder, as a share of opt.lr.
    """

    size: Annotated[Size, Choice(SIZES)] = field(default_factory=M5)
    wide_iterations: Number = 2
    episode_length: Count = 500
    episode_lengths: tuple[int, ...] = ()
    task_size: Count = 96
    gamma_share: Positive = 5.0
    gamma_min: Share = 0.95
    gamma_max: Share = 0.995
    consistency_scale: Scale = 20.0
    reward_scale: Scale = 0.1
    value_scale: Scale = 0.1
    end_scale: Scale = 1.0
    entropy: Scale = 1e-4
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-4, eps=1e-8, clip=20.0, shrink=0.0))
    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-4, eps=1e-5, clip=20.0, shrink=0.0))
    encoder_lr: Scale = 0.3

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        LatentPlannerConfig.__post_init__(self)
        if self.size.latent % self.group:
            raise ValueError(f"size.latent {self.size.latent} cannot be divided into groups of {self.group}")
        if self.size.channels % self.group:
            raise ValueError(f"size.channels {self.size.channels} cannot be divided into groups of {self.group}")
        if min(self.episode_length, *self.episode_lengths, 1) < 1 or self.gamma_share <= 0.0:
            raise ValueError(
                "expected episode_length >= 1, so all of episode_lengths, and a positive gamma_share, "
                f"got {self.episode_length}, {list(self.episode_lengths)} and {self.gamma_share}"
            )
        if self.task_size < 1:
            raise ValueError(f"task_size must be at least 1, got {self.task_size}")
        if not 0.0 <= self.gamma_min <= self.gamma_max <= 1.0:
            raise ValueError(f"expected 0 <= gamma_min <= gamma_max <= 1, got {self.gamma_min} and {self.gamma_max}")
        if self.wide_iterations < 0:
            raise ValueError(f"wide_iterations must be at least 0, got {self.wide_iterations}")
        if not 0.0 <= self.encoder_lr < float("inf"):
            raise ValueError(f"encoder_lr must be at least 0 and finite, got {self.encoder_lr}")

    @property
    def gamma(self) -> float:
        """Discount of a decision in episodes of `episode_length`, see `gamma_of`."""
        return self.gamma_of(self.episode_length)

    def gamma_of(self, length: int) -> float:
        """Discount of a decision: (n - 1) / n within gamma_min and gamma_max, n = length / gamma_share.

        With the defaults 0.99 for 500 decisions, 0.95 for 100 and fewer, 0.995 for 1000 and more.
        Source: Hansen et al. 2024 (TD-MPC2), appendix on hyper-parameters; its code, ``_get_discount``.
        """
        n = length / self.gamma_share
        return min(max((n - 1.0) / n, self.gamma_min), self.gamma_max)

    def gammas(self, tasks: int) -> list[float]:
        """Discounts of so many tasks. Raises ValueError if there are lengths of another number of them."""
        lengths = self.episode_lengths or (self.episode_length,) * tasks
        if len(lengths) != tasks:
            raise ValueError(f"episode_lengths has {len(lengths)} lengths for {tasks} environments")
        return [self.gamma_of(length) for length in lengths]

    def search(self, actions: int) -> PlanConfig:
        """The search for so many action dimensions."""
        more = self.wide_iterations if actions >= WIDE else 0
        return replace(self.plan, iterations=self.plan.iterations + more)


class TDMPC2Learner(LatentLearner):
    """Learner of TD-MPC2."""

    config: TDMPC2Config

    def __init__(
        self,
        agent: TDMPC2,
        policy: LatentPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        self.config, self.gamma = agent.config, agent.config.gamma
        model = self.model
        self.slow_critics = copy.deepcopy(model.critics).requires_grad_(False)
        self.range = RunningScale(self.config.tau).to(self.device)
        prior = set(model.prior.parameters())
        encoder = list(policy.encoder.parameters())
        opt = self.config.opt
        self.optimisers = {
            "model": Optimiser(
                [*encoder, *(p for p in model.parameters() if p not in prior)],
                opt,
                shares=dict.fromkeys(encoder, self.config.encoder_lr),
            ),
            "actor": Optimiser(model.prior.parameters(), self.config.actor_opt),
        }

    @property
    def model(self) -> SimplicialModel:
        """The policy's."""
        model = self.policy.model
        assert isinstance(model, SimplicialModel)
        return model

    @torch.no_grad()
    def targets(self, rows: dict[str, Tensor], obs: State, u: Tensor) -> tuple[Tensor, Tensor]:
        """Latents h_1 ... h_H [H, B, L] of what was seen, and targets [H, B] of the values before them.

        Source: Hansen et al. 2024 (TD-MPC2), equation 5; tdmpc2.py, ``_td_target``.
        """
        model = self.model
        ahead = self.policy.encoder({name: value[1:] for name, value in obs.items()}, u[1:])
        task = self.policy.task(rows)
        gamma: float | Tensor = self.gamma
        if task is not None and model.tasks is not None:
            task = task[1:]
            gamma = model.tasks.gammas(task)
        action, _ = model.act(ahead, self.draw(*ahead.shape[:2], model.actions), task)
        values = model.values(ahead, action, self.slow_critics, chosen=self._pair(), task=task)
        goes_on = (~rows["is_terminal"][1:]).float()
        return ahead, rows["reward"][1:] + gamma * goes_on * values.amin(0)

    def model_loss(
        self,
        rows: dict[str, Tensor],
        obs: State,
        u: Tensor,
        ahead: Tensor,
        target: Tensor,
        valid: Tensor,
        probabilities: Tensor,
        metrics: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, None]:
        """Cross-entropies of reward and values, and the consistency with what was seen; windows have no priorities.

        Source: Hansen et al. 2024 (TD-MPC2), equations 3 and 5.
        """
        config, model = self.config, self.model
        states, action = self.roll_out(rows, obs, u)
        before, after = states[:-1], states[1:]
        task = self.policy.task(rows)
        pairs = model.pairs(before, action, None if task is None else task[:-1])
        values = model.critics(pairs, self._dropout(model.critics.members, before))
        losses = {
            "consistency": (after - ahead).square().mean(-1),
            "reward": model.numbers.loss(model.reward(pairs), rows["reward"][1:]),
            "value": model.numbers.loss(values, target.expand(*values.shape[:-1])).mean(0),
        }
        terms = {name: self.discounted(loss, valid) / len(valid) for name, loss in losses.items()}
        scales = config.scales
        if model.end is not None:
            known = model.known(after, None if task is None else task[1:])
            logits, ends = model.end(known).squeeze(-1).float(), rows["is_terminal"][1:].float()
            terms["end"] = masked_mean(F.binary_cross_entropy_with_logits(logits, ends, reduction="none"), valid)
            scales["end"] = config.end_scale
        metrics |= {f"{name}_loss": loss.detach() for name, loss in terms.items()}
        metrics["q"] = masked_mean(model.numbers.mean(values.detach()).mean(0), valid)
        return torch.stack([scales[name] * loss for name, loss in terms.items()]).sum(), states.detach(), None

    def actor_loss(self, states: Tensor, reached: Tensor, task: Tensor | None, metrics: dict[str, Tensor]) -> Tensor:
        """Loss with an entropy and the range of Q; critics are held, their dropout is not.

        Embeddings, which the model's step has just moved, are bounded first and held too.
        Source: Hansen et al. 2024 (TD-MPC2), equation 6; tdmpc2.py, ``update_pi``.
        """
        model = self.model
        actions: float | Tensor = model.actions
        if task is not None and model.tasks is not None:
            model.tasks.bound()
            actions = model.tasks.widths(task)
        with frozen(model.critics if model.tasks is None else nn.ModuleList([model.critics, model.tasks])):
            action, log_prob = model.act(states, self.draw(*states.shape[:2], model.actions), task)
            u = self._dropout(2, states)
            q = model.values(states, action, model.critics, u, self._pair(), task).mean(0)
        self.range.update(q[0])
        entropy = -actions * log_prob
        metrics["actor_entropy"] = masked_mean(-log_prob.detach(), reached)
        metrics["q_range"] = self.range.value.clone()
        return self.discounted(-(self.range(q) + self.config.entropy * entropy), reached) / len(states)

    @torch.no_grad()
    def follow(self) -> None:
        """The slow critics follow after every update."""
        for slow, fast in zip(self.slow_critics.parameters(), self.model.critics.parameters(), strict=True):
            slow.lerp_(fast, self.config.tau)

    def _pair(self) -> Tensor:
        return pair(self.noise.uniform(self.model.critics.members))

    def _dropout(self, members: int, states: Tensor) -> Tensor | None:
        """Numbers for the critics' dropout at states [T, B, L], None without one."""
        critics = self.model.critics
        rows = states.shape[0] * states.shape[1]
        return self.draw(members, rows, critics.units) if critics.dropout else None


class TDMPC2(LatentPlanner):
    """Recipe of TD-MPC2, for continuous actions."""

    config: TDMPC2Config
    Config: ClassVar[type] = TDMPC2Config
    learners: ClassVar[bool] = True
    tasks: ClassVar[bool] = True
    padded: ClassVar[bool] = True
    Learner: ClassVar[type[TDMPC2Learner]] = TDMPC2Learner
    title = "TD-MPC2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.env.tasks:
            if self.config.episode_lengths:
                told = list(self.config.episode_lengths)
                raise ValueError(f"episode_lengths {told} are of several environments, here is one: say episode_length")
            return
        if any(is_image(space) for space in self.env.observation.values()):
            raise ValueError("several environments are learned from vectors, not from images; name one of them")
        self.config.gammas(len(self.env.tasks))

    def make_encoder(self) -> LatentEncoder:
        """Encoder with SimNorm."""
        config, size = self.config, self.config.size
        widths = (size.encoder_units, size.encoder_layers, size.latent, size.channels)
        seen = dict(self.env.observation)
        if self.env.tasks:  # It reads the embedding of the task, behind all that is seen.
            seen |= {TASK: spaces.Box(-1.0, 1.0, (config.task_size,))}
        return SimplicialEncoder(seen, config.stack, *widths, config.shift, config.group)

    def make_model(self, latent: int, actions: int) -> LatentModel:
        """Model of the configured size, of all tasks."""
        config, tasks = self.config, len(self.env.tasks)
        widths = self.env.widths or (actions,) * tasks
        table = TaskTable(config.task_size, widths, actions, config.gammas(tasks)) if tasks else None
        return SimplicialModel(latent, actions, config.size, config, table)

    def make_policy(
        self, encoder: LatentEncoder, model: LatentModel, actions: ContinuousActions, stacks: Stacks
    ) -> LatentPolicy:
        """Policy that shifts images in acting too."""
        search = self.config.search(actions.size)
        return LatentPolicy(encoder, model, actions, stacks, search, self.config.gamma, True, self.config.mpc)
