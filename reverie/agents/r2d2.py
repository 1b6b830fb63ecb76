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
has none); epsilon is per environment stream of one actor, where the paper has 256 actors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from reverie.agents.dqn import DQN
from reverie.agents.drqn import DRQN, DRQNConfig
from reverie.agents.exploration import Exploration
from reverie.nets.optim import OptimConfig
from reverie.nets.q_heads import gather_actions
from reverie.nets.torsos import TorsoConfig
from reverie.ops.losses import td_squared
from reverie.ops.n_step import NStep
from reverie.ops.transforms import rescale, rescale_inverse


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
    stack: int = 4
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(dense=512))
    hidden: int = 512
    feed: bool = True
    rescaling: float | None = 1e-3
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


class R2D2(DRQN):
    """DRQN with other `targets`, `td_loss`, `reduce` and `priorities`."""

    config: R2D2Config

    def targets(self, steps: NStep, bootstrap: Tensor) -> Tensor:
        """y = h(earned + discount h^-1(bootstrap)), [learn, B]."""
        eps = self.config.rescaling
        if eps is None:
            return super().targets(steps, bootstrap)
        return rescale(super().targets(steps, rescale_inverse(bootstrap, eps)), eps)

    def td_loss(self, outputs: Tensor, action: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Half the squared error, and the error on the rescaled values."""
        value = gather_actions(outputs, action)
        return td_squared(value, targets), targets - value

    def reduce(self, loss: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        """Sum over the valid rows of a window, weighted mean over windows, as in `DQN`."""
        return DQN.reduce(self, loss, valid, weights)

    def priorities(self, error: Tensor, valid: Tensor) -> Tensor:
        """eta max_t |delta_t| + (1 - eta) mean_t |delta_t| over the valid rows, [B]."""
        return self.config.eta * error.abs().amax(0) + (1.0 - self.config.eta) * super().priorities(error, valid)
