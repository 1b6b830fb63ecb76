"""From one configuration to the next in the middle of a run: which keys can change, and what a change brings about.

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
from reverie.nets.optim import OptimConfig
from reverie.run.build import build_limiter, derive
from reverie.run.chain import PACING, differences, is_below, touches

if TYPE_CHECKING:
    from reverie.run.local import Local

FIXED = {
    "name": "another agent has other networks",
    "preset": "a preset only names where the values came from",
    "init": "a run begins once",
    "env.id": "another environment is another task",
    "env.num_envs": "the replay and the open episodes have a place for each stream",
    "replay.window": "the replay is laid out for its windows",
    "replay.selector.kind": "each selector keeps its own state",
    "replay.selector.alpha": "stored priorities were raised to the old power",
    "replay.store.budget": "the replay is laid out for its size",
    "replay.store.chunk": "the files on disk have that length",
}
"""Keys, or groups of keys, that a run keeps, and why."""


def check_change(old: Config, new: Config) -> None:
    """Raise UserError, naming the first key and the way out, if a run cannot go on with `new` after `old`."""
    kinds = [f"agent.{path}" for path in _optimisers(old.agent)]
    for key in differences(old, new):
        why = next((FIXED[fixed] for fixed in FIXED if is_below(key, [fixed])), None)
        if key.rpartition(".")[0] in kinds and key.endswith(".kind"):
            why = "each rule keeps moments of its own"
        if why is not None:
            raise UserError(f"{key} cannot change in the middle of a run: {why}; {way_out(old)}")


def way_out(config: Config) -> str:
    """What to do where a run cannot go on as wanted."""
    return f"begin another run from its networks instead: reverie train {config.name} --init RUN ..."


def step(local: Local, old: Config, frames: int) -> None:
    """Make the step from `old` to the configuration of `local`, whose parts are as they were under `old`.

    frames: of the run under `old`. Raises UserError if the run has made more than it is to make, or in other units.
    """
    new, clock = local.config, local.run.clock
    if clock.frames != frames:
        raise UserError(
            f"env_steps of {new.env.id} were {frames // max(clock.env_steps, 1)} frames long and would be "
            f"{clock.repeat}: the action repeat cannot change in the middle of a run; {way_out(old)}"
        )
    if touches(old, new, "run.frames", "run.env_steps") and local.run.total < clock.env_steps:
        raise UserError(f"the run has made {clock.env_steps} env_steps already and cannot end after {local.run.total}")
    if touches(old, new, *PACING) and clock.env_steps >= old.run.prefill:
        repace(local, old)
    if old.run.seed != new.run.seed:
        reseed(local)


def repace(local: Local, old: Config) -> None:
    """Let the pacing of `local` take over from that of `old`."""
    store = local.store
    before: Limiter = build_limiter(old, local.learner.windows)
    before.load_state_dict(store.limiter.state_dict())
    counts = (store.env_steps, store.replay.sampled_rows)
    store.limiter.rebase(*counts, before.debt(*counts))


def reseed(local: Local) -> None:
    """Begin all generators anew from the run's seed; the environments' do when they are reset."""
    seed = local.config.run.seed
    local.learner.noise.restore(Noise(derive(seed, "learner"), local.learner.device).state())
    local.actor.noise.restore(Noise(derive(seed, "actor"), local.actor.device, host=True).state())
    local.store.replay.reseed(derive(seed, "replay"))


def resets_env(old: Config, new: Config) -> bool:
    """Whether the open episodes cannot go on."""
    return touches(old, new, "env", "run.seed")


def _optimisers(config: object, prefix: str = "") -> list[str]:
    """Dotted names of the optimisers' settings in an agent's."""
    names = []
    for name, value in vars(config).items():
        if isinstance(value, OptimConfig):
            names.append(prefix + name)
        elif hasattr(value, "__dataclass_fields__"):
            names += _optimisers(value, f"{prefix}{name}.")
    return names
