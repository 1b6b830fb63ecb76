"""Sections of a document on runs that are about scores: over training, and at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from reverie.envs.env import EnvSpec
from reverie.report import svg
from reverie.report.curves import LEVEL, X_LABELS, Y_LABELS
from reverie.report.page import Folded, Section, Table, Text
from reverie.report.reference import GAME, reference
from reverie.report.statistics import bootstrap_interval, iqm
from reverie.report.words import number
from reverie.study.about import About
from reverie.study.curves_of import Group, curve, table


def references(env: str, spec: EnvSpec | None) -> dict[str, float]:
    """Scores to compare with, by name, where they are known."""
    known = reference(env)
    if known is not None:
        return {"random": known.random, "human": known.human}
    levels = {} if spec is None else {"random": spec.random_score, "best possible": spec.optimal_score}
    return {name: level for name, level in levels.items() if level is not None}


def common(groups: Sequence[Group], levels: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Of the levels of each group, by its label, those that are the same for all of them."""
    first, *others = [levels[group.label] for group in groups]
    return {name: level for name, level in first.items() if all(other.get(name) == level for other in others)}


def learning(groups: Sequence[Group], levels: Mapping[str, Mapping[str, float]]) -> Section | None:
    """Scores over training: of each environment a picture and a table."""
    blocks: list[Any] = []
    for env in dict.fromkeys(group.env for group in groups):
        here = [group for group in groups if group.env == env]
        for metric in ("episode/score", "eval/score"):
            # Of whole games, where a life is an episode: that is what levels are of, and other runs' scores.
            sought = (GAME, metric) if metric == "episode/score" else (metric,)
            told = [next(filter(None, (curve(group, name) for name in sought)), None) for group in here]
            found = [each for each in told if each is not None]
            if metric == "eval/score":  # the evaluation at the end alone is no curve
                found = [each for each in found if len(each.x) > 1]
            if not found:
                continue
            words = "Scores of training episodes" if metric == "episode/score" else "Evaluations during training"
            caption = f"{words} on {env}."
            blocks.append(svg.curves(found, X_LABELS["frames"], Y_LABELS[metric], caption, common(here, levels)))
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
        known = common([group for group, _, _ in here], levels)
        blocks.append(svg.dots([dot for _, dot, _ in here], Y_LABELS["eval/score"], caption, known))
        head = ["what", "runs", name, f"{LEVEL * 100:g} % interval", "each seed"]
        lines = [[g.label, len(d.values), d.middle, told, ", ".join(map(number, d.values))] for g, d, told in here]
        blocks.append(Table(head, lines, f"{env}, by seed" if len(here) < len(over_seeds) else ""))
        blocks += [Text(doubt, "note") for group, _, _ in here for doubt in doubts(group)]
    if rows:
        always = ["evaluation", "env_steps", "episodes", "play", "mean", "deviation", "lowest", "highest"]
        head = [*always, "cut", "in dreams"]
        said = [place < len(always) or any(row[place] not in ("-", 0) for row in rows) for place in range(len(head))]
        blocks.append(Table(list(compress(head, said)), [list(compress(row, said)) for row in rows]))
    several = len({group.env for group in groups}) > 1
    for env in dict.fromkeys(group.env for group in groups):
        known = common([group for group in groups if group.env == env], levels)
        if blocks and known:
            told = ", ".join(f"{name} {number(level)}" for name, level in known.items())
            blocks.append(Text(f"To compare with{f' on {env}' if several else ''}: {told}."))
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
