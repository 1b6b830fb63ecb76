"""The local runner: one process, one vector environment, actor and trainer in a deterministic round robin.

Bit-reproducible on a CPU under a seed, and exact across interruptions: a checkpoint holds everything that the next
row, batch or update depends on, so that a killed run resumed from its last checkpoint writes the very metrics that an
uninterrupted one writes (clock readings aside).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverie.agents.agent import Noise, Seat, placed
from reverie.config import Config
from reverie.data.sequences import Feedback
from reverie.data.store import Store
from reverie.envs.env import ResumeError, VectorEnv, shut
from reverie.errors import notice
from reverie.report.writer import Writer
from reverie.run.build import build_env, build_outbox, derive
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.ledger import Ended
from reverie.run.params import Follower
from reverie.run.roles import Actor
from reverie.run.runner import Runner
from reverie.run.transition import resets_env


def came_back(env: VectorEnv, state: Any, old: Config, new: Config) -> bool:
    """Whether an environment is where it was when a state of it was saved under `old`; if not, it must begin anew."""
    try:
        if state is not None and not resets_env(old, new):
            env.load_state_dict(state)
            return True
    except ResumeError as error:
        notice(f"{error}; its open episodes are closed as truncated")
    return False


class Local(Runner):
    """The parts of a run in one process. Arguments as in `Runner`."""

    store: Store

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.env = build_env(config)
        super().__init__(config, run_dir, self.env.spec, chain, writers, callbacks)
        policy, self.follower = self.learner.policy, None
        if every := config.run.follow_every:
            policy = placed(self.agent.policy(), self.learner.device)
            self.follower = Follower(policy, every)
        self.outbox = build_outbox(config, self.store, self.env.spec, self.env.num_envs, policy, self.learner.windows)
        self.actor = Actor(self.env, policy, self.outbox.put, derive(config.run.seed, "actor"), self.finite)
        self.run.carried = self.env.carried
        self.parts |= {"outbox": self.outbox, "actor": self.actor}
        self.parts |= {"follower": self.follower} if self.follower else {}

    def start(self) -> None:
        """Reset the environment of a run that begins."""
        if self.run.resumed is None:
            self.run.episodes(self.actor.start(), self.actor.episode_info)

    def act(self) -> None:
        """Take one decision per stream."""
        version = self.followed()
        self.entered(self.actor.step(self.seat(), version))

    def owes(self) -> bool:
        """Whether the store still allows a learner_step."""
        return self.store.may_sample(self.config.replay.batch)

    def learn(self) -> None:
        """Make as many learner_steps as the store allows now, until the run is asked to end.

        Batches that are drawn ahead are learned from before a checkpoint, so a round with them is made to its end.
        """
        self.trainer.learn(stop=bool if self.config.run.ahead else self.run.stop)

    def seat(self) -> Seat:
        """What the policy needs to know of whom it acts for now."""
        return self.seat_at(self.run.clock.env_steps)

    def seat_at(self, env_steps: int) -> Seat:
        """What it needs to know at that env_step of the run."""
        return Seat.alone(self.env.num_envs, self.play_at(env_steps), env_steps)

    def followed(self) -> int:
        """Version of the parameters that act now; newer ones are taken over, if it is time."""
        clock = self.run.clock
        if self.follower is None:
            return clock.version
        self.follower.follow(clock.version, self.learner.policy)
        return self.follower.version

    def entered(self, ended: list[Ended]) -> None:
        """Note which episodes ended with the rows that entered the store last."""
        self.run.episodes(ended, self.actor.episode_info)

    def metrics(self) -> dict[str, float]:
        """Numbers of the policy about how it acts, and the age of its parameters if it follows the learner's."""
        age = self.follower.metrics(self.run.clock.version) if self.follower else {}
        return self.actor.metrics() | age

    def free(self) -> None:
        """Close the environment."""
        shut(self.env)

    def extras(self) -> dict[str, Any]:
        """State of the environment, if it has one."""
        return {"env": self.env.state_dict() if self.env.spec.resume != "truncate" else None}

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Restore the environment, or begin anew where it cannot be brought back; and feedback that was held."""
        self.take_back([Feedback(**each) for each in tree.get("held", {}).values()])
        if self.run.cut_since is not None:  # nobody acts again before the round's line of the log
            self.actor.seat = self.seat_at(self.run.cut_since)
        if came_back(self.env, tree["env"], old, self.config):
            return
        steps, version = self.run.clock.env_steps, (self.follower or self.run.clock).version
        self.actor.begin_anew(derive(self.config.run.seed, f"actor {steps}"), version)

    def take_back(self, held: list[Feedback]) -> None:
        """Give the store feedback that a checkpoint of a run with overlap held."""
        for feedback in held:
            self.store.feedback(feedback)

    def renewed(self) -> None:
        """Have an actor that follows take over the networks that are new, whatever their version."""
        if self.follower is not None:
            self.follower.version = -1

    def reseed(self) -> None:
        """Begin the actor's generator anew; the environments' do when they are reset."""
        self.actor.noise.restore(Noise(derive(self.config.run.seed, "actor"), self.actor.device, host=True).state())
