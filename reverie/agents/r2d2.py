"""R2D2: a recurrent Double DQN on prioritised sequences, with stored states and burn-in.

    target_t = h(sum_{k<n} gamma^k r_{t+k+1} + gamma^n h^-1(Q'(s_{t+n}, a*))),   a* = arg max_a Q(s_{t+n}, a)
    h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x
    priority = eta max_t |delta_t| + (1 - eta) mean_t |delta_t|

::

    rows     | context 40 (burn-in) | learn 80 ............... | lookahead 5 |     windows begin at every 40th row
    online   s --> no gradient ---> s --> Q(s_t, a_t) ------------> Q(s_{t+n})
    target   s --> no gradient ---> s'-------------------------> Q'(s'_{t+n})     from the same stored s

Source: Kapturowski, Ostrovski, Quan, Munos, Dabney, "Recurrent Experience Replay in Distributed Reinforcement
Learning", ICLR 2019. Parents: DRQN for the memory, Double and Dueling DQN, Ape-X for actors' priorities and epsilon.
What is different from DRQN: rescaled targets instead of clipped rewards, the squared error instead of Huber's, summed
over the rows of a window (DRQN: mean) and averaged over windows; the priority of a window; the LSTM reads the previous
action and reward.

Windows run on across the ends of episodes, where the state is reset, so that the first 40 rows of an episode are
trained like all others (as the learned rows of a window that began in the episode before).

Differs from the paper in: that (there, windows end with their episode); a fully connected layer of 512 units lies
between convolutions and LSTM, which the text does not name but the codes of Acme, SEED RL and rlpyt have (Deep RL Zoo
has none); epsilon is per environment stream of one actor, where the paper has 256 actors; until learning begins they
play at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from reverie.agents.bellman import Bellman
from reverie.agents.dqn import DQNLearner
from reverie.agents.drqn import DRQN, DRQNBellman, DRQNConfig, DRQNLearner
from reverie.agents.exploration import Exploration
from reverie.nets.optim import OptimConfig
from reverie.nets.torsos import TorsoConfig
from reverie.nets.values import LossKind, Scalar
from reverie.values import Count, Number, Positive


@dataclass(frozen=True)
class R2D2Config(DRQNConfig):
    """Defaults are the paper's (table 2 and section 2.3).

    rescaling: the eps of h; None: no rescaling, h is the identity. eta: share of the largest error in priorities.
    beta: 0.6 as in the final paper's table; 0 is the first version's (no importance weights).
    """

    n_step: int = 5
    gamma: float = 0.997
    double: bool = True
    dueling: bool = True
    reward: str = "identity"
    stack: Count = 4
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(dense=512))
    hidden: Number = 512
    feed: bool = True
    rescaling: Positive | None = 1e-3
    loss: LossKind = "squared"
    eta: float = 0.9
    actor_priorities: bool = True
    beta: float = 0.6
    explore: Exploration = field(default_factory=lambda: Exploration(kind="ladder", evaluation=0.0))
    opt: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4, eps=1e-3, clip=40.0, shrink=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rescaling is not None and self.rescaling <= 0.0:
            raise ValueError(f"rescaling must be positive or none, got {self.rescaling}")
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must be in [0, 1], got {self.eta}")


class R2D2Bellman(DRQNBellman):
    """DRQN's common parts, with other `priorities`."""

    config: R2D2Config

    def priorities(self, error: Tensor, valid: Tensor) -> Tensor:
        """Priorities eta max_t |delta_t| + (1 - eta) mean_t |delta_t| over the valid rows, [B]."""
        return self.config.eta * error.abs().amax(0) + (1.0 - self.config.eta) * super().priorities(error, valid)


class R2D2Learner(DRQNLearner):
    """DRQN's learner with DQN's `average`."""

    def average(self, loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean over windows of the sum over their valid rows, as in `DQNLearner`."""
        return DQNLearner.average(self, loss, valid, weights)


class R2D2(DRQN):
    """DRQN's recipe with rescaled values and the squared error."""

    config: R2D2Config
    Config: ClassVar[type] = R2D2Config
    learners: ClassVar[bool] = True
    Learner: ClassVar[type[DQNLearner]] = R2D2Learner

    def bellman(self) -> Bellman:
        """Common parts of learner and actors, with the mixture of priorities."""
        return R2D2Bellman(self.config)

    def values(self) -> Scalar:
        """Meaning h of action values, and the configured loss."""
        return Scalar(self.config.loss, self.config.rescaling)
