"""From one configuration to the next in the middle of a run: what a change brings about.

Whatever has no state (learning rates, losses, exploration, lengths, evaluations, devices) simply has its new value.
Three changes take a step of their own, when a checkpoint of before is restored:

- **pacing** (`reverie.run.chain.PACING`): the learner owes what it owed, and the new ratio counts from here on;
- **the environment's protocol and options**: open episodes are closed as time limits, and all streams are reset;
- **the seed**: every generator begins anew from it, and so do the episodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.agents.noise import Noise
from reverie.config import Config
from reverie.data.limiter import Limiter
from reverie.errors import UserError
from reverie.run.build import build_limiter, derive
from reverie.run.chain import PACING, touches
from reverie.run.fixed import way_out

if TYPE_CHECKING:
    from reverie.run.runner import Runner


def step(runner: Runner, old: Config, frames: int) -> None:
    """Make the step from `old` to the configuration of `runner`, whose parts are as they were under `old`.

    frames: of the run under `old`. Raises UserError if the run has made more than it is to make, or in other units.
    """
    new, clock = runner.config, runner.run.clock
    if clock.frames != frames:
        raise UserError(
            f"env_steps of {new.env.id} were {frames // max(clock.env_steps, 1)} frames long and would be "
            f"{clock.repeat}: the action repeat cannot change in the middle of a run; {way_out(old)}"
        )
    if touches(old, new, "run.frames", "run.env_steps") and runner.run.total < clock.env_steps:
        raise UserError(f"the run has made {clock.env_steps} env_steps already and cannot end after {runner.run.total}")
    learned = clock.env_steps >= old.run.prefill or any(store.limiter.took_over for store in runner.stores)
    if touches(old, new, *PACING) and learned:
        repace(runner, old)
    if old.run.seed != new.run.seed:
        reseed(runner)


def repace(runner: Runner, old: Config) -> None:
    """Let the pacing of `runner` take over from that of `old`."""
    for store in runner.stores:
        before: Limiter = build_limiter(old, runner.learner.windows)
        before.load_state_dict(store.limiter.state_dict())
        # Where the old one had not begun yet, what it owes is what it would have owed when it began.
        debt = before.debt(max(store.env_steps, before.origin), store.sampled_rows)
        store.limiter.rebase(store.env_steps, store.sampled_rows, debt)


def reseed(runner: Runner) -> None:
    """Begin all generators anew from the run's seed; the environments' do when they are reset."""
    seed = runner.config.run.seed
    runner.learner.noise.restore(Noise(derive(seed, "learner"), runner.learner.device).state())
    runner.reseed()
    for store in runner.stores:
        store.reseed(derive(seed, "replay"))


def resets_env(old: Config, new: Config) -> bool:
    """Whether the open episodes cannot go on."""
    return touches(old, new, "env", "run.seed")
