"""Decisions of population-based training: who takes over whose networks, and how hyper-parameters change.

::

    exploit   tournament    a member draws one rival; if that is better by more than `margin`, it copies it
              truncation    the worst copy one of the best, drawn: `share` of the members each
    explore   each hyper-parameter is multiplied, with probability `chance`, by `factor` or by 1 / factor

A copy takes networks, their statistics, the optimiser's moments and hyper-parameters; nothing else. Nothing here knows
of runs: fitnesses and values come in, decisions go out.

Source: Jaderberg et al. 2017, "Population Based Training of Neural Networks", section 3 and appendix A (truncation);
Espeholt et al. 2018 (IMPALA), appendix F: a rival drawn by each, 5 points better, factors 1.2 and 1 / 1.2 with
probability 1/3, copied or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reverie.config import PopulationConfig

Draws = np.random.Generator
Values = Mapping[str, float]
"""Dotted key -> value of a hyper-parameter."""


@dataclass(frozen=True)
class Decision:
    """What one member does next. before, after: its hyper-parameters.

    fitness: None where it has not ended enough episodes; it goes on as it is then. rival: whom it was compared with.
    copied_from: whom it copies, or None. env_steps: of the member at that moment.
    """

    round: int
    member: int
    env_steps: int
    fitness: float | None
    rival: int | None
    rival_fitness: float | None
    copied_from: int | None
    before: Values
    after: Values


def first_values(vary: Mapping[str, Sequence[float]], draws: Draws) -> dict[str, float]:
    """Hyper-parameters that a member begins with, of ``population.vary``.

    Two numbers are a range, in which a value is drawn evenly by its logarithm; more are the values that there are.
    """
    return {
        key: math.exp(math.log(given[0]) + (math.log(given[1]) - math.log(given[0])) * float(draws.random()))
        if len(given) == 2
        else float(given[int(draws.integers(len(given)))])
        for key, given in vary.items()
    }


def decide(
    round: int,
    env_steps: Sequence[int],
    fitness: Sequence[float | None],
    values: Sequence[Values],
    options: PopulationConfig,
    draws: Draws,
) -> list[Decision]:
    """The decisions of all members, from what all were before any of them.

    env_steps, fitness, values: of each member; a fitness of NaN is below all others. draws: of the rivals first, member
    by member, then of the changes.
    """
    fitness = [None if own is None else ranked(own) for own in fitness]
    rivals = (_tournament if options.exploit == "tournament" else _truncation)(fitness, options, draws)
    decisions = []
    for member, rival in enumerate(rivals):
        own, other = fitness[member], None if rival is None else fitness[rival]
        copies = own is not None and other is not None and other > own + options.margin
        source = rival if copies else None
        before = values[member] if source is None else values[source]
        changes = own is not None and (copies or options.explore == "always")
        after = explore(before, options, draws) if changes else dict(before)
        decisions.append(
            Decision(round, member, env_steps[member], own, rival, other, source, dict(values[member]), after)
        )
    return decisions


def ranked(score: float) -> float:
    """A score to compare others with: one that is no number, as of a run that diverged, is below all."""
    return -math.inf if math.isnan(score) else score


def explore(values: Values, options: PopulationConfig, draws: Draws) -> dict[str, float]:
    """The values after their perturbation; for each, one draw whether, and if so one which way."""
    after = {}
    for key, value in values.items():
        if draws.random() < options.chance:
            value = value * options.factor if draws.random() < 0.5 else value / options.factor
        after[key] = value
    return after


def _tournament(fitness: Sequence[float | None], options: PopulationConfig, draws: Draws) -> list[int | None]:
    """For each member that is ready another one of these."""
    ready = [member for member, own in enumerate(fitness) if own is not None]
    rivals: list[int | None] = []
    for member in range(len(fitness)):
        others = [other for other in ready if other != member]
        drawn = member in ready and others
        rivals.append(others[int(draws.integers(len(others)))] if drawn else None)
    return rivals


def _truncation(fitness: Sequence[float | None], options: PopulationConfig, draws: Draws) -> list[int | None]:
    """For each of the worst of those that are ready one of the best; at least one is among the worst."""
    ready = sorted((own, -member) for member, own in enumerate(fitness) if own is not None)
    order = [-number for _, number in ready]
    count = min(max(1, int(options.share * len(order))), len(order) // 2)
    worst, best = order[:count], order[len(order) - count :]
    return [best[int(draws.integers(count))] if member in worst else None for member in range(len(fitness))]


def as_line(decision: Decision) -> dict[str, object]:
    """A decision as a line of the log has it."""
    return {**vars(replace(decision, before=dict(decision.before), after=dict(decision.after)))}
