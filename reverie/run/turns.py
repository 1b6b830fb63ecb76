"""The local runner of agents whose workers send gradients: they take turns in one process, in a fixed order.

::

    turn t is of worker w = t mod W:   play with theta_w until there is a batch
                                       gradient of the batch at theta_w
                                       the owner steps on it: version t becomes t + 1
                                       theta_w <- the owner's parameters of version t + 1

Between a worker's fetch and the arrival of its next gradient the W - 1 others have had one turn each, so that every
gradient is W - 1 versions old (in the first round worker w's, which began with version 0, is w versions old): the
staleness of W threads that are equally fast. Bit-reproducible on a CPU under a seed, and exact across interruptions, as
`reverie.run.local` is: whose turn it is follows from the learner_steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverie.agents.agent import Noise, Seat
from reverie.config import Config
from reverie.envs.env import EnvSpec, shut
from reverie.envs.tasks import check_shares
from reverie.report.writer import Writer
from reverie.run.build import build_env, derive
from reverie.run.callback import Callback
from reverie.run.chain import Chain
from reverie.run.clock import Clock
from reverie.run.ledger import Ended
from reverie.run.local import came_back
from reverie.run.owner import Owner
from reverie.run.params import Params
from reverie.run.runner import Runner
from reverie.run.worker import Worker, build_worker, check_workers


class Workers:
    """Workers of one process as one part of a run."""

    def __init__(self, each: Sequence[Worker]) -> None:
        self.each = list(each)

    @property
    def env_steps(self) -> int:
        """Decisions of all of them."""
        return sum(worker.store.env_steps for worker in self.each)

    def metrics(self) -> dict[str, float]:
        """Sums of what their stores count, and the mean of their ratios."""
        told = [worker.store.metrics() for worker in self.each]
        sums = {name: sum(one[name] for one in told) for name in told[0]}
        return sums | {"ratio": sums["ratio"] / len(told)}

    def state_dict(self) -> dict[str, Any]:
        """States by the workers' numbers."""
        return {str(worker.number): worker.state_dict() for worker in self.each}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for worker in self.each:
            worker.load_state_dict(state[str(worker.number)])


class Turns(Runner):
    """Owner and workers in one process. Arguments as in `Runner`."""

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        chain: Chain | None = None,
        writers: Sequence[Writer] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        count = config.agent.workers
        check_workers(config, count)
        check_shares(config.env.id, config.env.num_envs, count)
        self.streams = config.env.num_envs // count
        self.envs = [build_env(config, self.streams) for _ in range(count)]
        super().__init__(config, run_dir, self.envs[0].spec, chain, writers, callbacks)
        self.run.carried = self.envs[0].carried

    def build(self, env: EnvSpec, run_dir: Path) -> Owner:
        """The owner, and the workers that send it gradients."""
        owner = Owner(self.learner, len(self.envs), self.streams, self.finite)
        device, seed, folder = self.learner.device, self.config.run.seed, run_dir / "replay"
        self.params = Params()
        self.workers = Workers(
            [
                build_worker(
                    self.config,
                    self.agent,
                    env,
                    number,
                    1,
                    derive(seed, f"worker {number}"),
                    device,
                    folder / str(number),
                )
                for number, env in enumerate(self.envs)
            ]
        )
        self.parts |= {"trainer": owner, "workers": self.workers}
        self.stores += [worker.store for worker in self.workers.each]
        self.owner = owner
        return owner

    def clock(self, repeat: int) -> Clock:
        """The clock whose env_steps are those of all workers."""
        return Clock(self.workers, self.learner, repeat)

    def kept(self) -> dict[str, float]:
        """Numbers about the rows of all workers."""
        return self.workers.metrics()

    @property
    def turn(self) -> Worker:
        """The worker whose turn it is."""
        return self.workers.each[self.learner.learner_steps % len(self.workers.each)]

    def publish(self, *workers: Worker) -> None:
        """Have workers fetch the owner's parameters."""
        self.params.publish(self.run.clock.version, self.run.clock.env_steps, self.learner.policy)
        newest = self.params.newer(-1)
        assert newest is not None
        for worker in workers:
            worker.fetch(newest)

    def start(self) -> None:
        """Give the workers of a run that begins their first parameters, and reset their environments."""
        if self.run.resumed is None:
            self.publish(*self.workers.each)
            for worker in self.workers.each:
                self.tell(worker, worker.actor.start())

    def renewed(self) -> None:
        """Have all workers fetch: gradients at the networks of before are of no use to others."""
        self.publish(*self.workers.each)

    def act(self) -> None:
        """Make a turn."""
        worker, clock = self.turn, self.run.clock
        first = worker.number * self.streams
        seat = Seat(range(first, first + self.streams), self.config.env.num_envs, clock.env_steps, self.play)
        self.owner.apply(worker.work(seat, self.streams, lambda ended, _: self.tell(worker, ended)))
        self.publish(worker)
        self.acted = worker

    def tell(self, worker: Worker, ended: list[Ended]) -> None:
        """Write down episodes that ended in a worker's streams."""
        self.run.episodes(ended, worker.actor.episode_info)

    def metrics(self) -> dict[str, float]:
        """What the worker whose turn was last says of how it acts."""
        return self.acted.actor.metrics()

    def free(self) -> None:
        """Close the environments."""
        for env in self.envs:
            shut(env)

    def extras(self) -> dict[str, Any]:
        """States of the environments, if they have some."""
        states = [env.state_dict() if env.spec.resume != "truncate" else None for env in self.envs]
        return {"envs": {str(number): state for number, state in enumerate(states)}}

    def bring_back(self, tree: dict[str, Any], old: Config) -> None:
        """Restore the environments, or begin anew where they cannot be brought back."""
        for worker in self.workers.each:
            if not came_back(worker.env, tree["envs"][str(worker.number)], old, self.config):
                seed = derive(self.config.run.seed, f"worker {worker.number} {self.run.clock.env_steps}")
                worker.actor.begin_anew(seed, worker.version)

    def reseed(self) -> None:
        """Begin the actors' generators anew; the environments' do when they are reset."""
        for worker in self.workers.each:
            seed = derive(self.config.run.seed, f"worker {worker.number}")
            worker.actor.noise.restore(Noise(seed, worker.actor.device, host=True).state())
