"""An agent of one's own, as what is different from its parent: DQN whose target is the mean of two networks' values.

    reverie train own_agent:AverageDQN --env CartPole-v1        in this folder

docs/agents.md is the walk through everything that can be different.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.agents.dqn import DQN, DQNConfig
from reverie.nets.q_heads import PlainQ, Reads, gather_actions
from reverie.ops.n_step import NStep


@dataclass(frozen=True)
class AverageConfig(DQNConfig):
    """double: must be on, for the online network's values are read too."""

    double: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.double:
            raise ValueError("the mean of both networks needs double = true")


class AverageQ(PlainQ):
    """Head that bootstraps from the mean of what the online and the target network think of the chosen action.

    y = r + γ (Q(s', a*) + Q⁻(s', a*)) / 2    where DQN has    y = r + γ Q⁻(s', a*)
    """

    def target(self, reads: Reads, steps: NStep) -> Tensor:
        """Targets [learn, B]."""
        assert reads.online is not None
        action = self.select(reads)
        mean = (gather_actions(reads.online, action) + gather_actions(reads.target, action)) / 2
        return self.values.backup(mean, steps.earned, steps.discount)


class AverageDQN(DQN):
    """DQN with that head."""

    Config = AverageConfig

    def head(self, inputs: int) -> AverageQ:
        """The head of both networks."""
        return AverageQ(inputs, self.actions, self.config.hidden, self.values())


def main(run_dir: str = "runs/average", env_steps: int = 10_000) -> float:
    """Learn CartPole, with DQN's keys for it; returns the last evaluation."""
    import reverie
    from reverie import overrides

    parent = reverie.make_config("dqn", "cpu", "CartPole-v1")
    keys = overrides.flatten(reverie.make_config("own_agent:AverageDQN", None, "CartPole-v1"))
    same = {k: v for k, v in overrides.flatten(parent).items() if k in keys and k not in ("name", "preset")}
    config = overrides.apply(
        reverie.make_config("own_agent:AverageDQN", None, "CartPole-v1"),
        {**same, "agent.double": True, "run.env_steps": env_steps, "run.prefill": 200},
    )
    score: float = reverie.train(config, run_dir)["eval_score"]
    print(f"mean score {score:.1f} after {env_steps} env_steps")
    return score


if __name__ == "__main__":
    main()
