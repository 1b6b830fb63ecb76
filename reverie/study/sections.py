"""Sections of a document on runs: what was run, its losses, where the time went, what was changed on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie import overrides
from reverie.envs.env import EnvSpec
from reverie.play.card import described
from reverie.report import svg
from reverie.report.curves import X_LABELS
from reverie.report.page import Budget, Facts, Gallery, Section, Table, Text
from reverie.report.words import duration, number
from reverie.run.zoo import model_name, read_entry
from reverie.study.about import About
from reverie.study.curves_of import Group
from reverie.study.met import Met

LOSSES = ("train/", "_loss")
MOST_PANELS = 9
FEW = 8
"""Runs that each have a column of their own."""
SPEEDS = {"speed/env_steps_per_s": "env_steps per second", "speed/learner_steps_per_s": "learner_steps per second"}


def what_was_run(runs: Sequence[About]) -> Section:
    """Agent, preset, environment, protocol, seed, versions, machine, and what ended it."""
    if len(runs) == 1:
        return Section("run", "What was run", [Facts(_facts(runs[0])), *_notes(runs[0])])
    head = ["run", "agent", "preset", "environment", "seed", "env_steps", "learner_steps", "trained for", "score"]
    rows = []
    for about in runs:
        score = about.score()
        told = [about.agent, about.preset, about.env, "-" if about.seed is None else str(about.seed)]
        clocks = [about.env_steps, about.learner_steps, duration(about.elapsed)]
        rows.append([about.name, *told, *clocks, "-" if score is None else number(score[0])])
    alike = _alike([_facts(about) for about in runs], ("protocol", "device", "machine", *_VERSIONS))
    notes = [note for about in runs for note in _notes(about, about.name)]
    ends = [Text(f"{about.name}: {about.ended()}") for about in runs]
    return Section("run", "What was run", [Table(head, rows), Facts(alike), *ends, *notes])


_VERSIONS = ("reverie", "commit", "python", "torch", "numpy")


def _facts(about: About) -> dict[str, Any]:
    config, versions = about.config, about.versions
    seed = "-" if about.seed is None else str(about.seed)
    facts: dict[str, Any] = {"run": about.name, "agent": about.agent, "preset": about.preset, "environment": about.env}
    if config is not None:
        facts["protocol"] = config.env.protocol
    facts |= {"seed": seed, "env_steps": about.env_steps, "learner_steps": about.learner_steps}
    if about.elapsed:
        facts["trained for"] = duration(about.elapsed)
    facts["how it ended"] = about.ended()
    if config is not None:
        facts["device"] = config.run.device + (f", {config.ray.actors} actors on Ray" if config.ray.actors else "")
    in_zoo = model_name(about.path) is not None
    facts["machine"] = read_entry(about.path).machine if in_zoo else versions.get("machine", "not recorded")
    facts |= {name: versions[name] for name in _VERSIONS if name in versions}
    return facts


def _alike(facts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """Facts of several runs: one value if it is that of all, else all of them."""
    values = {name: list(dict.fromkeys(str(each[name]) for each in facts if name in each)) for name in names}
    return {name: ", ".join(found) for name, found in values.items() if found}


def _notes(about: About, name: str = "") -> list[Text]:
    return [Text(f"{name}: {note}" if name else note, "note") for note in about.notes]


def losses(groups: Sequence[Group]) -> Section | None:
    """Losses and other numbers of the learner, of the first run of each group."""
    firsts = [group.runs[0] for group in groups]
    names = dict.fromkeys(name for about in firsts for record in about.records for name in record)
    losses = [
        name for name in names if name.startswith(LOSSES[0]) and name.endswith(LOSSES[1]) and name.count("/") == 1
    ]
    panels: dict[str, list[Any]] = {}
    for name in losses[:MOST_PANELS]:
        points = [about.points(name) for about in firsts]
        panels[name.removeprefix("train/")] = [svg.NOTHING if each is None else each for each in points]
    if not panels:
        return None
    labels = [group.label for group in groups]
    one = "" if all(len(group.runs) == 1 for group in groups) else " of the first seed"
    caption = f"Losses{one} over training, before weighing; docs/metrics.md says what each is."
    return Section("losses", "Losses", [svg.small(panels, X_LABELS["frames"], labels, caption)])


def pictures(runs: Sequence[About], budget: Budget) -> Section | None:
    """Videos and pictures that were made of the runs, but for those of dreams, which have a section of their own."""
    drawn_here = ("dream.gif", "dream.png", "dream_error.png", "prediction.png")
    media = []
    for about in runs:
        for path in about.media:
            if path.name in drawn_here:
                continue
            prefix = f"{about.name}: " if len(runs) > 1 else ""
            if (found := budget.media(path, f"{prefix}{path.parent.name}/{path.name}")) is not None:
                media.append(found)
    blocks: list[Any] = [Gallery(media)] if media else []
    blocks += [Text(f"{line}.", "note") for line in budget.left_out]
    return Section("pictures", "Pictures and videos", blocks) if blocks else None


def time_spent(runs: Sequence[About]) -> Section | None:
    """Seconds by what the run did, speeds, and what its parts measured."""
    timed = [about for about in runs if about.elapsed]
    if not timed:
        return None
    rows = [
        [about.name, kind, duration(seconds), f"{100 * seconds / about.elapsed:.3g} %"]
        for about in timed
        for kind, seconds in about.phases().items()
    ]
    blocks: list[Any] = [_by_run(["run", "what it did", "time", "share"], rows, timed)]
    panels = {}
    for name, words in SPEEDS.items():
        points = [about.points(name, since_training=True) for about in timed[:FEW]]
        if any(each is not None for each in points):
            panels[words] = [svg.NOTHING if each is None else each for each in points]
    if panels:
        names = [about.name for about in timed[:FEW]]
        blocks.append(svg.small(panels, X_LABELS["frames"], names, "Speed since training began.", zero=True))
    timers = [[about.name, name, mean] for about in timed for name, mean in _timers(about).items()]
    if timers:
        blocks.append(_by_run(["run", "measured", "mean"], timers, timed))
    return Section("time", "Where the time went", blocks)


def _by_run(head: Sequence[str], rows: Sequence[Sequence[Any]], runs: Sequence[About]) -> Table:
    """A table whose first column names the run, without that column if there is one run."""
    first = 1 if len(runs) == 1 else 0
    return Table(head[first:], [row[first:] for row in rows])


def _timers(about: About) -> dict[str, float]:
    names = dict.fromkeys(name for record in about.records for name in record if name.startswith("timer/"))
    return {name: float(np.mean([r[name] for r in about.records if name in r])) for name in names}


def on_the_way(runs: Sequence[About]) -> Section:
    """What was changed, resumed or branched, and when it was away."""
    lines = []
    for about in runs:
        changed = [] if about.chain is None else about.chain.lines()
        away = [f"before {steps:,} env_steps it was away for {duration(gap)}" for steps, gap in about.pauses()]
        lines += [[about.name, line] for line in (*changed, *away)]
    blocks: list[Any] = [_by_run(["run", "what"], lines, runs)] if lines else []
    if not lines:
        blocks.append(Text("Nothing was changed on the way, and no pause is in the log."))
    return Section("changes", "Resumed or changed on the way", blocks)


def environment(env: str, spec: EnvSpec | str) -> list[Any]:
    """Blocks on an environment: its specification, or why it could not be made here."""
    if isinstance(spec, str):
        return [Text(f"{env} could not be made here: {spec}", "note")]
    facts: dict[str, Any] = {"id": env, "protocol": spec.protocol, "action repeat": spec.action_repeat}
    facts |= {f"observation {key}": described(space) for key, space in spec.observation.items()}
    masked = ", of those that a mask allows" if spec.action_mask else ""
    facts |= {"action": described(spec.action) + masked, "resumed by": spec.resume}
    facts |= {name: overrides.text(value) for name, value in spec.flags.items()}
    known = {"random actions score": spec.random_score, "the best possible is": spec.optimal_score}
    return [Facts(facts | {name: level for name, level in known.items() if level is not None})]


def claims(met: Sequence[tuple[str, Met]]) -> Section | None:
    """Claims of the repository that runs are about. met: (whose numbers, claim)."""
    blocks: list[Any] = []
    for name, each in met:
        blocks.append(Text(f"{each.claim.name}: {each.claim.claim}."))
        if each.settings:
            more = ", ..." if len(each.settings) > 4 else ""
            blocks.append(
                Text(f"{name} was run otherwise ({', '.join(each.settings[:4])}{more}), and says nothing on it.")
            )
        elif each.verdicts:
            head = ["what is checked", name, ""]
            rows = [[what, numbers, "supports it" if holds else "does not"] for what, numbers, holds in each.verdicts]
            blocks.append(Table(head, rows))
        else:
            blocks.append(Text(f"Same settings; `reverie reproduce {each.claim.name}` measures what it says."))
    return Section("claims", "Claims that it is about", blocks) if blocks else None
