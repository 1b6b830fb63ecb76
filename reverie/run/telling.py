"""What a run says of itself: what comes, how much is kept, how long it takes, and that nothing is learned."""

from __future__ import annotations

from reverie.config import Config
from reverie.data.paced import Paced
from reverie.data.room import Room
from reverie.errors import notice
from reverie.machine import in_words, memory_of
from reverie.nets.schedule import Length
from reverie.run.clock import Clock
from reverie.run.length import schedule_line

MINUTE = 60.0
"""seconds of training after which the time to come is told"""


def opening_lines(config: Config, clock: Clock, total: int, since: Length | None) -> list[str]:
    """Lines that say what comes in a run that begins. total: its env_steps. since: see `schedule_line`."""
    prefill = config.run.prefill
    parameters = sum(tensor.numel() for tensor in clock.learner.parameters() if tensor.requires_grad)
    what = f"{parameters:,} trained parameters on {clock.learner.device}"
    first = "learning from the first rows on"
    if config.dataset.path:
        first = f"learning from {config.dataset.path}, counted from {prefill:,} on"
    elif prefill:
        first = f"random actions for {prefill:,} env_steps, then learning"
    lines = [line] if (line := schedule_line(config, clock.repeat, since)) else []
    return [*lines, f"{what}; {total:,} env_steps: {first}"]


def size_lines(clock: Clock, total: int, given: int | None) -> list[str]:
    """Lines that say how much is kept. given: rows of the dataset that is learned from; None: the run acts."""
    store = clock.store
    if not isinstance(store, Paced):
        return []
    return [size_line(store.room, total if given is None else given, acts=given is None)]


def size_line(room: Room, total: int, acts: bool = True) -> str:
    """Line that says how much the replay may take, and how much of the run, or of its dataset, it holds.

    total: rows to come; acts: whether they are the run's own.
    """
    rows, there = room.rows, memory_of(room.place)
    holds = "the whole run" if acts else "the whole dataset"
    if rows < total:
        holds = f"the newest {rows:,} rows" + (f" of {total:,} env_steps" if acts else " of the dataset")
    filled = room.nbytes * min(1.0, total / rows)
    return f"replay: {in_words(filled)} when full, of {in_words(there.total)} of memory; it holds {holds}"


class Pace:
    """Clock of the first minute of training, after which the hours to come can be told. total: env_steps of the run."""

    def __init__(self, total: int) -> None:
        self.total, self.told = total, False
        self.since: tuple[float, int] | None = None

    def line(self, seconds: float, env_steps: int, learner_steps: int) -> str:
        """Line that says how long the rest takes, once a minute of training is measured; empty at other times.

        What comes before the first learner_step is left out: filling a replay goes faster than training.
        """
        if self.told or not learner_steps:
            return ""
        if self.since is None:
            self.since = (seconds, env_steps)
        past, made = seconds - self.since[0], env_steps - self.since[1]
        if past < MINUTE or not made:
            return ""
        self.told = True
        left = (self.total - env_steps) * past / made
        return f"about {_duration(left)} to go, at the {made / past:,.1f} env_steps/s of the first minute of training"


class Waiting:
    """Notices, each once, that training does not begin, or has stopped, for want of windows that can be drawn."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._begin = self._go_on = False

    def look(self, env_steps: int, learner_steps: int, acts: bool) -> None:
        """Look again, after so many of both since the last time. acts: no dataset is learned from."""
        clock, prefill, ratio = self._clock, self._config.run.prefill, self._config.run.train_ratio
        if not clock.learner_steps:
            if clock.env_steps > prefill and not self._begin:
                self._begin = True
                notice(
                    f"no learner_step yet after {clock.env_steps} env_steps (run.prefill is {prefill}): training waits "
                    f"for the first windows of {clock.window} rows that can be drawn"
                )
            return
        owed = 0.0 if ratio is None or not acts else env_steps * ratio
        batch = self._config.replay.batch * self._config.replay.window.learn
        if owed > 2 * batch and not learner_steps and not self._go_on:
            self._go_on = True
            notice(
                f"no learner_step in {env_steps} env_steps, which earn more than two: no window can be drawn from the "
                "replay now, as where an episode is longer than what it holds; raise replay.store.budget"
            )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"
