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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from reverie.agents.agent import Agent, Decision, Learner, Noise, Policy, Seat, placed
from reverie.agents.recurrent import probes, start_state
from reverie.agents.worldmodel import WorldModel, WorldModelConfig, frozen
from reverie.data.rows import State, observations
from reverie.data.sequences import Batch, SequenceSpec
from reverie.nets.actions import Actions, ContinuousKind, make_actions
from reverie.nets.encoders import Encoder
from reverie.nets.heads import Head, HeadConfig
from reverie.nets.layers import glorot_
from reverie.nets.optim import OptimConfig, Optimiser
from reverie.nets.rssm import RSSM
from reverie.ops.distributions import unit_normal_nll
from reverie.ops.returns import imagined_returns, trajectory_weights


@dataclass(frozen=True)
class DreamerV2Config(WorldModelConfig):
    """The world model's settings and the behaviour's: defaults are the paper's Atari agent as its code released it.

    gamma, lam: discount and lambda of the returns. horizon: imagined steps H.
    actor_grad: reinforce, dynamics, both (mixed with actor_mix), or auto (reinforce if discrete, dynamics if not).
    entropy: scale of the actor's entropy. target_every, target_fraction: slow critic (hard copy at fraction 1).
    """

    actor: HeadConfig = field(default_factory=HeadConfig)
    critic: HeadConfig = field(default_factory=HeadConfig)
    continuous: ContinuousKind = "trunc_normal"
    gamma: float = 0.999
    lam: float = 0.95
    horizon: int = 15
    actor_grad: Literal["auto", "reinforce", "dynamics", "both"] = "auto"
    actor_mix: float = 0.1
    entropy: float = 1e-3
    target_every: int = 100
    target_fraction: float = 1.0
    model_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2e-4))
    actor_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=4e-5))
    critic_opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4))

    def __post_init__(self) -> None:
        if self.horizon < 2:
            raise ValueError(f"horizon must be >= 2 (the last two dream states train no action), got {self.horizon}")


@dataclass(frozen=True)
class Dream:
    """N imagined trajectories. features, reward, discount, value: [H+1, N(, F)]; actions a_1..a_H: [H, N, A].

    policy: outputs of the actor's head that drew those actions, [H, N, P], with gradients to the actor.
    """

    features: Tensor
    actions: Tensor
    policy: Tensor
    reward: Tensor
    discount: Tensor
    value: Tensor

    @property
    def weights(self) -> Tensor:
        """[H+1, N] probability of still being in the episode, times gamma^i; w_0 = 1."""
        return trajectory_weights(self.discount)


class DreamerPolicy(Policy):
    """Encoder, RSSM and actor: what acts in the environment."""

    def __init__(self, encoder: Encoder, rssm: RSSM, actor: Head, actions: Actions) -> None:
        super().__init__()
        self.encoder, self.rssm, self.actor = encoder, rssm, actor
        self.actions = actions
        self.noise = self.rssm.latent.noise + actions.noise

    def initial_state(self, batch: int) -> State:
        """Zeros (DreamerV2)."""
        return self.rssm.initial_state(batch, self.device)

    def step(self, state: State, rows: Mapping[str, Tensor], noise: Noise, seat: Seat) -> Decision:
        """See `Policy.step`. Latents are sampled also in evaluation; ``greedy`` takes the actor's likeliest action."""
        u = noise.uniform(len(rows["is_first"]), self.noise)
        u_latent, u_action = u.split([self.rssm.latent.noise, self.actions.noise], -1)
        embed = self.encoder(observations(rows))
        action = self.actions.encode(rows["prev_action"])
        state, _ = self.rssm.observe_step(state, action, rows["is_first"], embed, u_latent)
        return Decision(self.actions.decode(self.act(state, u_action, seat)), state)

    def act(self, state: State, u: Tensor, seat: Seat) -> Tensor:
        """The encoded action [B, A] at a state."""
        if seat.play == "random":
            return self.actions.uniform(u)
        out = self.actor(self.rssm.feature(state))
        return self.actions.sample(out, u) if seat.play == "explore" else self.actions.mode(out)

    def unroll(self, state: State, rows: Mapping[str, Tensor], noise: Noise) -> tuple[State, State]:
        """Posterior states [T, B, ...] and the last one."""
        u = noise.uniform(*rows["is_first"].shape, self.noise)
        embed = self.encoder(observations(rows))
        action = self.actions.encode(rows["prev_action"])
        u_latent = u[..., : self.rssm.latent.noise]
        states, _, last = self.rssm.observe(state, action, rows["is_first"], embed, u_latent)
        return states, last


class DreamerV2Learner(Learner):
    """World model, actor, critic and slow critic, with one optimiser for each of the first three."""

    policy: DreamerPolicy

    def __init__(
        self,
        agent: DreamerV2,
        policy: DreamerPolicy,
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(policy, windows, seed, device, precision)
        config = self.config = agent.config
        self.model = agent.model(policy)
        self.actor, self.actions = policy.actor, policy.actions
        features = self.model.rssm.features
        self.critic = Head(features, None, config.critic)
        self.slow_critic = Head(features, None, config.critic).requires_grad_(False)
        for part in (self.model, self.actor, self.critic, self.slow_critic):
            glorot_(part)
        self.model.rssm.reset_parameters()
        self.slow_critic.load_state_dict(self.critic.state_dict())
        placed(self, self.device)
        self.optimisers = {
            "model": Optimiser(self.model.parameters(), config.model_opt, self.model.rates),
            "actor": Optimiser(self.actor.parameters(), config.actor_opt),
            "critic": Optimiser(self.critic.parameters(), config.critic_opt),
        }
        auto = "reinforce" if self.actions.discrete else "dynamics"
        self.actor_grad = auto if config.actor_grad == "auto" else config.actor_grad

    def compile_parts(self) -> None:
        """Compile the steps that loops repeat, and the losses of the heads; the loops themselves stay Python.

        Unrolling 50 to 64 posterior and 15 prior steps into one graph takes a compiler minutes; a step takes seconds.
        """
        rssm = self.model.rssm
        for owner, name in ((rssm, "observe_embedded"), (rssm, "imagine_step"), (self.model, "head_losses")):
            setattr(owner, name, torch.compile(getattr(owner, name), dynamic=False))

    def losses(self, batch: Batch, metrics: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Model first; the behaviour then dreams in the updated model, from the states seen before the update."""
        model_loss, states, terminal = self.world_model_loss(batch, metrics)
        yield {"model": model_loss}
        start = {name: value.detach().flatten(0, 1) for name, value in states.items()}
        dream = self.imagine(start, terminal.flatten())
        returns = imagined_returns(dream.reward, dream.discount, dream.value, self.config.lam)
        yield {
            "actor": self.actor_loss(dream, returns, metrics),
            "critic": self.critic_loss(dream, returns, metrics),
        }
        self.update_slow_critic()

    def world_model_loss(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, State, Tensor]:
        """Equation 2 of the paper. Returns (loss, posterior states [T, B, ...], is_terminal [T, B])."""
        time, width = batch.rows["is_first"].shape
        tape = self.noise.tape(time, width, self.policy.noise)
        with self.autocast():
            state, rows = start_state(self.policy, batch, self.windows, tape)
            action = self.actions.encode(rows["prev_action"])
            u = tape.u[self.windows.context :]
            loss, states, parts = self.model.loss(state, action, rows, u, self.config.gamma)
        metrics.update(parts)
        self.measure_drift(batch, states, metrics)
        return loss, states, rows["is_terminal"]

    @torch.no_grad()
    def measure_drift(self, batch: Batch, states: State, metrics: dict[str, Tensor]) -> None:
        """KL(q(z | h^, o) || q(z | h, o)) in nats at the probed rows: the counterpart of R2D2's dQ for a latent.

        h^ is the deterministic state of this update's unroll, h the one that follows from the state that the actor had
        before that row; both with today's parameters. h^ has seen other samples of the latents than the actor.
        """
        rssm = self.model.rssm
        for probe in probes(batch, self.windows):
            keep = (~probe.rows["is_first"]).float().unsqueeze(-1)
            before = {name: value * keep for name, value in probe.state.items()}
            deter = rssm.advance(before, self.actions.encode(probe.rows["prev_action"]) * keep)
            embedded = rssm.post_embed(self.model.encoder(observations(probe.rows)))
            here = rssm.posterior(states["deter"][probe.row - self.windows.context], embedded)
            metrics[probe.name] = probe.mean(rssm.latent.kl(*here, *rssm.posterior(deter, embedded)))

    def imagine(self, start: State, is_terminal: Tensor) -> Dream:
        """Roll the model forward for H steps from N states; is_terminal: bool [N], of the rows they came from.

        The actor reads detached features; with dynamics gradients the actions' gradients flow through the model,
        whose own parameters are frozen meanwhile. With reinforce only the actor's outputs need a gradient.
        """
        horizon, count = self.config.horizon, is_terminal.shape[0]
        u = self.noise.uniform(horizon, count, self.policy.noise)
        pathwise = self.actor_grad != "reinforce"
        with torch.set_grad_enabled(pathwise), frozen(self.model), self.autocast():
            state = start
            features, actions, policy = [self.model.rssm.feature(state)], [], []
            for i in range(horizon):
                u_latent, u_action = u[i].split([self.model.rssm.latent.noise, self.actions.noise], -1)
                with torch.enable_grad():
                    policy.append(self.actor(features[-1].detach()))
                actions.append(self.actions.sample(policy[-1] if pathwise else policy[-1].detach(), u_action))
                state = self.model.rssm.imagine_step(state, actions[-1], u_latent)
                features.append(self.model.rssm.feature(state))
            feats = torch.stack(features)
            reward = self.model.reward(feats)
            discount = self.model.predicted_discount(feats, self.config.gamma)
            if self.model.discount is not None:
                # The first state is real: whether the episode ended there is known.
                first = self.config.gamma * (~is_terminal).float()
                discount = torch.cat([first.unsqueeze(0), discount[1:]])
            value = self.slow_critic(feats)
        return Dream(feats, torch.stack(actions), torch.stack(policy), reward, discount, value)

    def actor_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Equation 6: mix of REINFORCE and dynamics backpropagation, plus entropy, weighted by `Dream.weights`.

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
        weights = dream.weights[:-2].detach()
        return -(weights * (objective + self.config.entropy * entropy)).mean()

    def critic_loss(self, dream: Dream, returns: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Equation 5, as the negative log-likelihood of N(V(s_i), 1), i = 0..H-1."""
        with self.autocast():
            value = self.critic(dream.features[:-1].detach())
        metrics["imagined_reward"] = dream.reward.mean().detach()
        metrics["imagined_return"] = returns.mean().detach()
        metrics["value"] = value.mean().detach()
        return (dream.weights[:-1] * unit_normal_nll(returns.detach(), value, 0)).mean()

    def update_slow_critic(self) -> None:
        """Copy the critic after update 0, target_every, ...; a lerp by 0 otherwise, so that shapes are static."""
        due = torch.eq(self.policy.version % self.config.target_every, 0).float() * self.config.target_fraction
        with torch.no_grad():
            for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, due)


class DreamerV2(Agent):
    """The recipe. Hooks of construction: `policy`, `model`."""

    config: DreamerV2Config
    Config: ClassVar[type] = DreamerV2Config
    Learner: ClassVar[type[DreamerV2Learner]] = DreamerV2Learner

    def __post_init__(self) -> None:
        self.actions()

    def actions(self) -> Actions:
        """Actions as the model and the actor see them. Raises ValueError for a space that they cannot be made of."""
        return make_actions(self.env.action, continuous=self.config.continuous)

    def policy(self) -> DreamerPolicy:
        """See `Agent.policy`."""
        config, actions = self.config, self.actions()
        encoder = Encoder(self.env.observation, config.encoder)
        rssm = RSSM(encoder.outputs, actions.size, config.rssm)
        return DreamerPolicy(encoder, rssm, Head(rssm.features, actions.params, config.actor), actions)

    def model(self, policy: DreamerPolicy) -> WorldModel:
        """The world model around a policy's encoder and RSSM; no learner is needed to dream."""
        return WorldModel(self.config, self.env.observation, policy.encoder, policy.rssm)

    def learner(
        self,
        policy: DreamerPolicy,  # type: ignore[override]
        windows: SequenceSpec,
        seed: int = 0,
        device: torch.device | None = None,
        precision: torch.dtype = torch.float32,
    ) -> DreamerV2Learner:
        """See `Agent.learner`. All parameters are initialised here, in one order (Glorot)."""
        return self.Learner(self, policy, windows, seed, device, precision)
