"""The chain of a run's configurations: the one in force, and those before it, each with what was made under it.

::

    config.json    before: [ A until 150 env_steps,  B until 900 env_steps ]      config: C
    generation               0                       1                            2

A checkpoint notes the generation that it was made under. A run that goes on from one of an earlier generation makes the
step to the present configuration then (`reverie.run.transition`), again if it is killed before the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reverie import overrides
from reverie.config import Config
from reverie.nets.schedule import Length

PACING = ("run.train_ratio", "run.prefill", "run.pretrain", "replay.batch", "replay.window.learn")
"""keys that say how many learner_steps there are for how many env_steps"""


@dataclass(frozen=True)
class Past:
    """A configuration that was in force before another took its place.

    env_steps, learner_steps: of the run at that moment. versions: of the packages that it ran with. run: the directory
    of the run that this one was branched off at that moment, if it was.
    """

    config: Config
    env_steps: int
    learner_steps: int
    versions: Mapping[str, str]
    run: str | None = None


@dataclass(frozen=True)
class Chain:
    """Configurations of a run: `config` is in force, `past` was before, oldest first. versions: of `config`."""

    config: Config
    versions: Mapping[str, str]
    past: tuple[Past, ...] = ()

    @property
    def generation(self) -> int:
        """Number of configurations before the present one."""
        return len(self.past)

    @property
    def since(self) -> Length | None:
        """What had been made when the pacing last changed; None if it never did while anything was learned."""
        since = None
        for past, then in self._steps():
            learned = since is not None or past.env_steps >= past.config.run.prefill
            if learned and touches(past.config, then, *PACING):
                since = Length(past.env_steps, past.learner_steps)
        return since

    def followed_by(
        self, config: Config, made: Mapping[str, Any], versions: Mapping[str, str], run: str | None = None
    ) -> Chain:
        """The chain with another configuration in force from a checkpoint on.

        made: the checkpoint's env_steps, learner_steps and generation. Configurations after that generation have made
        nothing that is kept, and are left out. run: see `Past`.
        """
        generation = int(made.get("generation", 0))
        kept = self.past[:generation]
        run = run or (self.past[generation].run if generation < self.generation else None)
        last, with_versions = self.at(generation)
        if config == last and run is None:
            return Chain(config, versions, kept)
        past = Past(last, int(made["env_steps"]), int(made["learner_steps"]), with_versions, run)
        return Chain(config, versions, (*kept, past))

    def at(self, generation: int) -> tuple[Config, Mapping[str, str]]:
        """Configuration and versions of a generation."""
        if generation == self.generation:
            return self.config, self.versions
        return self.past[generation].config, self.past[generation].versions

    def lines(self) -> list[str]:
        """A line for each change: when, and which keys had which values before and after."""
        lines = []
        for past, then in self._steps():
            told = [f"{key} {old!r} -> {new!r}" for key, (old, new) in differences(past.config, then).items()]
            branched = [f"branched off {past.run}"] if past.run else []
            lines.append(f"at {past.env_steps} env_steps: {', '.join([*branched, *told])}")
        return lines

    def _steps(self) -> list[tuple[Past, Config]]:
        """Each configuration that was before, and the one that took its place."""
        return list(zip(self.past, [*(past.config for past in self.past), self.config][1:], strict=True))


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys that differ, with both values; None stands for a key that one of the two does not have."""
    before, after = overrides.flatten(old), overrides.flatten(new)
    return {
        key: (before.get(key), after.get(key))
        for key in {**before, **after}
        if key not in before or key not in after or before[key] != after[key]
    }


def touches(old: Config, new: Config, *keys: str) -> bool:
    """Whether one of these keys, or a key below one of them, differs."""
    return any(overrides.is_below(changed, keys) for changed in differences(old, new))
