"""Sections of a document on runs: what was run, how it learned, where the time went, what was changed on the way."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np

from reverie import overrides
from reverie.config import Config
from reverie.envs.env import EnvSpec
from reverie.errors import UserError
from reverie.play.card import described
from reverie.presets import make_config
from reverie.report import svg
from reverie.report.curves import LEVEL, X_LABELS, Y_LABELS
from reverie.report.page import Budget, Code, Facts, Folded, Gallery, Section, Table, Text, duration, number
from reverie.report.reference import reference
from reverie.report.statistics import bootstrap_interval, iqm
from reverie.run.chain import differences
from reverie.run.zoo import model_name, read_entry
from reverie.study.about import About
from reverie.study.curves_of import Group, curve, table
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


def references(env: str, spec: EnvSpec | None) -> dict[str, float]:
    """Scores to compare with, by name, where they are known."""
    known = reference(env)
    if known is not None:
        return {"random": known.random, "human": known.human}
    levels = {} if spec is None else {"random": spec.random_score, "best possible": spec.optimal_score}
    return {name: level for name, level in levels.items() if level is not None}


def learning(groups: Sequence[Group], levels: Mapping[str, Mapping[str, float]]) -> Section | None:
    """Scores over training: of each environment a picture and a table."""
    blocks: list[Any] = []
    for env in dict.fromkeys(group.env for group in groups):
        here = [group for group in groups if group.env == env]
        for metric in ("episode/score", "eval/score"):
            found = [each for group in here if (each := curve(group, metric)) is not None]
            if metric == "eval/score":  # the evaluation at the end alone is no curve
                found = [each for each in found if len(each.x) > 1]
            if not found:
                continue
            words = "Scores of training episodes" if metric == "episode/score" else "Evaluations during training"
            caption = f"{words} on {env}."
            blocks.append(svg.curves(found, X_LABELS["frames"], Y_LABELS[metric], caption, levels.get(env)))
            head = ["frames", *(each.label for each in found)]
            blocks.append(Folded(f"{words}, as numbers", [Table(head, table(found))]))
    return Section("learning", "How it learned", blocks) if blocks else None


def evaluations(groups: Sequence[Group], levels: Mapping[str, Mapping[str, float]]) -> Section | None:
    """Scores of the networks at the end: of each group over its seeds, and every evaluation that there is."""
    rows: list[list[Any]] = []
    over_seeds: list[tuple[Group, svg.Dot, str]] = []
    blocks: list[Any] = []
    for group in groups:
        scores = [score[0] for about in group.runs if (score := about.score()) is not None]
        if len(scores) > 1 or (len(groups) > 1 and scores):
            low_high = _interval(scores)
            told = "-" if low_high is None else f"{number(low_high[0])} to {number(low_high[1])}"
            middle = float(iqm(np.array(scores)[:, None]))
            over_seeds.append((group, svg.Dot(group.label, scores, middle, low_high), told))
        for about in group.runs:
            rows += [_evaluation(about, name, each) for name, each in about.evaluations.items()]
            rows += _by_training(about)
    for env in dict.fromkeys(group.env for group, _, _ in over_seeds):
        here = [each for each in over_seeds if each[0].env == env]
        if len(here) == 1 and len(here[0][1].values) == 1:
            continue
        name = middle_name(max(len(dot.values) for _, dot, _ in here))
        interval = f" and its {LEVEL * 100:g} % interval" if any(dot.interval for _, dot, _ in here) else ""
        caption = f"Scores at the end on {env}: each seed, their {name}{interval}."
        blocks.append(svg.dots([dot for _, dot, _ in here], Y_LABELS["eval/score"], caption, levels.get(env)))
        head = ["what", "runs", name, f"{LEVEL * 100:g} % interval", "each seed"]
        lines = [[g.label, len(d.values), d.middle, told, ", ".join(map(number, d.values))] for g, d, told in here]
        blocks.append(Table(head, lines, f"{env}, by seed" if len(here) < len(over_seeds) else ""))
        blocks += [Text(doubt, "note") for group, _, _ in here for doubt in doubts(group)]
    if rows:
        always = ["evaluation", "env_steps", "episodes", "play", "mean", "deviation", "lowest", "highest"]
        head = [*always, "cut", "in dreams"]
        said = [place < len(always) or any(row[place] not in ("-", 0) for row in rows) for place in range(len(head))]
        blocks.append(Table(list(compress(head, said)), [list(compress(row, said)) for row in rows]))
    for env, known in levels.items():
        if blocks and known:
            told = ", ".join(f"{name} {number(level)}" for name, level in known.items())
            blocks.append(Text(f"To compare with{f' on {env}' if len(levels) > 1 else ''}: {told}."))
    return Section("evaluations", "Evaluations", blocks) if blocks else None


def middle_name(scores: int) -> str:
    """What the middle of so many scores is called: below four none is left out on either side."""
    return "interquartile mean" if scores > 3 else "mean"


def doubts(group: Group) -> list[str]:
    """What a reader of scores at the end of a group should know: runs of different lengths, seeds that count twice."""
    told = []
    lengths = sorted({about.env_steps for about in group.runs})
    if len(lengths) > 1:
        told.append(f"{group.label}: these runs made {' and '.join(f'{n:,}' for n in lengths)} env_steps.")
    seeds = [about.seed for about in group.runs]
    twice = sorted({seed for seed in seeds if seed is not None and seeds.count(seed) > 1})
    if twice:
        told.append(f"{group.label}: seed {', '.join(map(str, twice))} is counted more than once.")
    return told


def _interval(scores: Sequence[float]) -> list[float] | None:
    if len(scores) < 3:
        return None
    low, high = bootstrap_interval(np.array(scores)[:, None], iqm, level=LEVEL)
    return [float(low), float(high)]


def _by_training(about: About) -> list[list[Any]]:
    """A line on the last evaluation in the log of a run, if there is one."""
    for record in reversed(about.records):
        if "eval/score" in record:
            told = [int(record["env_steps"]), int(record.get("eval/episodes", 0)), "greedy"]
            lowest, cut = record.get("eval/score_min", "-"), int(record.get("eval/cut", 0))
            return [[f"{about.name}, by its training", *told, float(record["eval/score"]), "-", lowest, "-", cut, "-"]]
    return []


def _evaluation(about: About, name: str, each: Mapping[str, Any]) -> list[Any]:
    scores = each.get("scores") or [each["score"]]
    dreamed = each.get("in_dream") or {}
    elsewhere = f" on {each['env']}" if each.get("env") not in (None, about.env) else ""
    gap = number(dreamed["dream"]["score"]) if "dream" in dreamed else "-"
    told = [int(each["env_steps"]), int(each["episodes"]), f"{each.get('play', 'greedy')}{elsewhere}"]
    numbers = [float(each["score"]), float(each.get("score_std", np.nan)), float(min(scores)), float(max(scores))]
    return [f"{about.name}/{name}", *told, *numbers, int(each.get("cut", 0)), gap]


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


def configuration(runs: Sequence[About], groups: Sequence[Group]) -> Section:
    """Differences between runs, from the preset, and the whole."""
    blocks: list[Any] = []
    if len(groups) > 1:
        blocks += _between([(group.label, group.runs[0]) for group in groups])
    for group in groups:
        about = group.runs[0]
        name = "" if len(groups) == 1 else f"{group.label}: "
        if about.config is None:
            blocks.append(Text(f"{name}compared with nothing, as this version cannot read it.", "note"))
            continue
        try:
            changed = told_of(about.config)
        except UserError as error:
            blocks.append(Text(f"{name}the preset {about.preset} could not be made here: {error}", "note"))
            continue
        changed.pop("run.seed", None)
        if changed:
            rows = [[key, _text(new), _text(old)] for key, (old, new) in changed.items()]
            blocks.append(Table(["key", "here", f"preset {about.preset}"], rows, f"{name}set by hand" if name else ""))
        else:
            blocks.append(Text(f"{name or 'Here '}everything is as in the preset {about.preset}."))
    for group in groups:
        about = group.runs[0]
        whole = [[key, _text(value)] for key, value in _leaves(about.settings).items()]
        blocks.append(Folded(f"The whole configuration of {about.name}", [Table(["key", "value"], whole)]))
    return Section("configuration", "Configuration", blocks)


def _between(named: Sequence[tuple[str, About]]) -> list[Any]:
    """A table of the settings in which runs differ."""
    leaves = [_leaves(about.settings) for _, about in named]
    keys = list(dict.fromkeys(key for each in leaves for key in each))
    told = {key: [_text(each[key]) if key in each else "-" for each in leaves] for key in keys}
    rows = [[key, *values] for key, values in told.items() if len(set(values)) > 1 and key != "run.seed"]
    if not rows:
        return []
    return [Table(["key", *(label for label, _ in named)], rows, "Where they differ")]


def default_of(config: Config) -> Config:
    """The configuration of the preset for the same task. Raises UserError if there is none here."""
    base = getattr(config.agent, "base", None)
    env = config.env
    return make_config(config.name, config.preset, env.id, protocol=env.protocol, options=env.options, base=base)


def told_of(config: Config) -> dict[str, tuple[Any, Any]]:
    """What a configuration was told beside agent, preset and environment: key -> (of the preset alone, here).

    Base, protocol and options are among it, which a preset sees before it chooses the rest.
    Raises UserError if there is no such preset here.
    """
    there = default_of(config)
    try:
        alone = make_config(config.name, config.preset, config.env.id)
    except UserError:  # the environment needs its options
        alone = replace(there, env=replace(there.env, protocol="auto", options={}))
    seen: dict[str, tuple[Any, Any]] = {}
    base, usual = getattr(config.agent, "base", None), getattr(alone.agent, "base", None)
    if base != usual:
        seen["agent.base"] = (usual, base)
    if config.env.protocol != alone.env.protocol:
        seen["env.protocol"] = (alone.env.protocol, config.env.protocol)
    for name, value in config.env.options.items():
        if name not in alone.env.options or alone.env.options[name] != value:
            seen[f"env.options.{name}"] = (alone.env.options.get(name), value)
    return seen | differences(there, config)


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


def again(runs: Sequence[About], command: str) -> Section:
    """Command lines that make these runs, and the one that makes this document."""
    lines = []
    for about in runs:
        if model_name(about.path) is not None:
            lines.append(read_entry(about.path).command)
        elif about.config is not None and (line := _train(about.config)) not in lines:
            lines.append(line)
            if about.chain is not None and about.chain.past:
                lines.append("    # what it was at its end: its settings changed on the way, see above")
    lines.append(command)
    return Section("again", "To make it again", [Code("\n".join(lines))])


def _train(config: Config) -> str:
    """The command line that trains a configuration."""
    words = ["reverie", "train", config.name, "--preset", config.preset, "--env", config.env.id]
    words += ["--seed", str(config.run.seed)]
    try:
        changed = told_of(config)
    except UserError:
        return f"{shlex.join(words)}   # and the settings above"
    told = {key: new for key, (_, new) in changed.items() if key != "run.seed"}
    return shlex.join([*words, *(f"--{key}={overrides.text(value)}" for key, value in told.items())])


def _text(value: Any) -> str:
    return overrides.text(value)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return leaves
