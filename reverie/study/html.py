"""``reverie report ... --html``: runs, or a comparison, as one HTML file that needs nothing else to be read."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from reverie.envs.env import EnvSpec, shut
from reverie.errors import UserError
from reverie.report import svg
from reverie.report.comparison import MEASURED, markdown, presets
from reverie.report.curves import LEVEL, X_LABELS, Y_LABELS, aggregate
from reverie.report.document import check_folder, write_whole
from reverie.report.page import Budget, Code, Heading, Page, Section, Table, Text, render
from reverie.report.runs import find_runs
from reverie.report.words import duration, number
from reverie.run.build import build_env
from reverie.run.zoo import resolve
from reverie.study import scores, sections, settings
from reverie.study.about import About, read_about
from reverie.study.curves_of import Group, groups
from reverie.study.foreseen import blocks as foreseen_blocks
from reverie.study.foreseen import foresee
from reverie.study.met import met_by_comparison, met_by_run

COMPARISON = "comparison.json"
MOST = 40
"""Runs in one document."""
MOST_DREAMS = 3
"""Dreams that are made for one document, one of each group of runs."""


def html_report(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    context: int | None = None,
    horizon: int = 45,
    seed: int = 0,
    make_dreams: bool = True,
) -> dict[str, Any]:
    """What was written: ``html``, the file `out`, its ``bytes`` and the ``runs`` in it.

    paths: run directories, ``zoo/<name>``, folders of runs, or of `reverie compare`. context, horizon, seed: of dreams
    that are made for it, see `reverie.study.foreseen.foresee`. make_dreams: whether there are any.

    Raises UserError for a path without a run, or an `out` that cannot be written, before anything is made.
    """
    out = Path(out)
    if out.is_dir():
        raise UserError(f"--html {out} is a folder; name a file, as {out / 'report.html'}")
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--html {out} should end with .html")
    runs, comparisons = _read(paths)
    check_folder(out.parent)
    command = _command(paths, out, context, horizon, seed, make_dreams)
    page = _page(runs, comparisons, command, context, horizon, seed, make_dreams)
    text = render(page)
    write_whole(out, text)
    return {"html": str(out), "bytes": len(text.encode()), "runs": [about.name for about in runs]}


def _command(
    paths: Sequence[str | Path], out: Path, context: int | None, horizon: int, seed: int, make_dreams: bool
) -> str:
    """The command line that writes this document."""
    words = ["reverie", "report", *map(str, paths), "--html", str(out)]
    words += [] if context is None else ["--context", str(context)]
    words += ["--horizon", str(horizon), "--seed", str(seed)]
    return shlex.join(words if make_dreams else [*words, "--no-dreams"])


def _read(paths: Sequence[str | Path]) -> tuple[list[About], list[tuple[Path, dict[str, Any]]]]:
    """Runs and comparisons in these places. Raises UserError where there is neither."""
    runs: dict[Path, About] = {}
    comparisons = []
    for named in paths:
        path = resolve(named)
        document = _comparison(path)
        if document is not None:
            comparisons.append((path, document))
        try:
            found = find_runs([path])
        except UserError:
            if document is not None:
                continue  # a comparison whose runs are elsewhere, or gone
            if path.is_dir() and (path / "metrics.jsonl").exists():
                raise
            what = "has no run in it" if path.is_dir() else "is not a directory"
            raise UserError(
                f"{named} {what}; name run directories, zoo/NAME, or a folder of `reverie compare`"
            ) from None
        for directory, _ in found:
            runs.setdefault(directory.resolve(), read_about(directory))
    if len(runs) > MOST:
        raise UserError(f"{len(runs)} runs are too many for one document, which has {MOST} at most; name fewer")
    return list(runs.values()), comparisons


def _comparison(path: Path) -> dict[str, Any] | None:
    """The document of `reverie compare` in a folder; None if there is none. Raises UserError if it is damaged."""
    file = path / COMPARISON
    if not file.is_file():
        return None
    try:
        document = json.loads(file.read_text())
        for name, row in document["summary"].items():
            float(row["iqm"]), [run["score"] for run in document["runs"][name]]
        return dict(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error}); restore it") from error


def _page(
    runs: Sequence[About],
    comparisons: Sequence[tuple[Path, dict[str, Any]]],
    command: str,
    context: int | None,
    horizon: int,
    seed: int,
    make_dreams: bool,
) -> Page:
    together = groups(runs)
    specs = _specs(together)
    levels = {group.label: _levels(group, specs) for group in together}
    budget = Budget()
    made: list[Section | None] = [_compared(place, *each) for place, each in enumerate(comparisons)]
    if runs:
        made.append(sections.what_was_run(runs))
        made.append(scores.learning(together, levels))
        made.append(scores.evaluations(together, levels))
        made.append(_dreams(together, specs, context, horizon, seed, make_dreams, budget))
        made.append(sections.pictures(runs, budget))
        made.append(sections.losses(together))
        made.append(sections.time_spent(runs))
        made.append(sections.on_the_way(runs))
        made.append(_environments(together, specs))
        made.append(settings.configuration(runs, together))
    made.append(sections.claims(_met(together, comparisons)))
    if runs:
        made.append(settings.again(runs, command))
    title, lead = _title(runs, together, comparisons)
    foot = (
        f"Written by reverie {reverie.__version__} on {time.strftime('%Y-%m-%d %H:%M %Z')}. Everything is in this file."
    )
    return Page(title, lead, [section for section in made if section], _tiles(runs, together, levels), foot)


def _title(
    runs: Sequence[About], together: Sequence[Group], comparisons: Sequence[tuple[Path, dict[str, Any]]]
) -> tuple[str, str]:
    if len(runs) == 1 and not comparisons:
        about = runs[0]
        return (
            f"{about.agent} on {about.env}",
            f"{about.name}, preset {about.preset}, seed {about.seed}. {about.ended()}",
        )
    if comparisons:
        document = comparisons[0][1]
        names = ", ".join(document["runs"])
        return f"Comparison on {document['env']}", f"{names}; each over {_seeds(document)}."
    agents = ", ".join(dict.fromkeys(about.agent for about in runs))
    envs = ", ".join(dict.fromkeys(about.env for about in runs))
    kinds = f", of {len(together)} kinds" if len(together) > 1 else ""
    return f"{agents} on {envs}", f"{len(runs)} runs{kinds}: {', '.join(about.name for about in runs[:6])}" + (
        ", ..." if len(runs) > 6 else ""
    )


def _tiles(
    runs: Sequence[About], together: Sequence[Group], levels: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, str, str]]:
    if not runs:
        return []
    tiles = []
    if len(together) == 1:
        ends = [score for about in runs if (score := about.score()) is not None]
        beside = ", ".join(f"{name} {number(level)}" for name, level in levels[together[0].label].items())
        if len(ends) == 1:
            tiles.append((number(ends[0][0]), f"score, {ends[0][1]}", beside))
        elif ends:
            middle = float(scores.iqm(np.array([score[0] for score in ends])[:, None]))
            doubted = "; see the notes at the evaluations" if scores.doubts(together[0]) else ""
            what = f"{scores.middle_name(len(ends))} of {len(ends)} scores{doubted}"
            tiles.append((number(middle), what, beside))
    else:
        tiles.append((str(len(together)), "kinds of runs", ""))
    if len(runs) > 1:
        tiles.append((str(len(runs)), "runs", ""))
    tiles.append((number(sum(about.env_steps for about in runs)), "env_steps", ""))
    tiles.append((number(sum(about.learner_steps for about in runs)), "learner_steps", ""))
    if elapsed := sum(about.elapsed for about in runs):
        tiles.append((duration(elapsed), "of training" + (", in all" if len(runs) > 1 else ""), ""))
    return tiles


def _specs(together: Sequence[Group]) -> dict[str, EnvSpec | str]:
    """Specification of the environment of each group, by its label, or why it could not be made."""
    return {group.label: _spec(group.runs[0]) for group in together}


def _spec(about: About) -> EnvSpec | str:
    if about.config is None:
        return "its configuration cannot be read by this version"
    try:
        env = build_env(about.config, 1)
        shut(env)
        return env.spec
    except UserError as error:
        return str(error)
    except Exception as error:  # an environment of somebody else's may raise anything, and is no reason to say nothing
        return f"{type(error).__name__}: {error}"


def _levels(group: Group, specs: Mapping[str, EnvSpec | str]) -> dict[str, float]:
    spec = specs[group.label]
    return scores.references(group.env, None if isinstance(spec, str) else spec)


def _environments(together: Sequence[Group], specs: Mapping[str, EnvSpec | str]) -> Section:
    blocks: list[Any] = []
    for label in _different(specs):
        group = next(group for group in together if group.label == label)
        blocks += sections.environment(group.env, specs[label])
    return Section("environment", "Environment", blocks)


def _different(specs: Mapping[str, EnvSpec | str]) -> list[str]:
    """Labels of groups, one for each environment that differs from those before it."""
    told: dict[str, str] = {}
    for label, spec in specs.items():
        told.setdefault(
            spec if isinstance(spec, str) else f"{spec.id} {spec.protocol} {sorted(spec.flags.items())!r}", label
        )
    return list(told.values())


def _dreams(
    together: Sequence[Group],
    specs: Mapping[str, EnvSpec | str],
    context: int | None,
    horizon: int,
    seed: int,
    make_dreams: bool,
    budget: Budget,
) -> Section | None:
    blocks: list[Any] = []
    made = 0
    for group in together:
        about, spec = group.runs[0], specs[group.label]
        known = None if isinstance(spec, str) else spec
        make = make_dreams and made < MOST_DREAMS
        found = foresee(about, known, context=context, horizon=horizon, seed=seed, make=make, budget=budget)
        made += found.made
        told = foreseen_blocks(about, found)
        if len(together) > 1:
            blocks.append(Heading(f"{group.label}: {about.name}"))
        blocks += told
    return Section("dreams", "What its model foresees", blocks) if blocks else None


def _met(together: Sequence[Group], comparisons: Sequence[tuple[Path, dict[str, Any]]]) -> list[tuple[str, Any]]:
    met: list[tuple[str, Any]] = []
    for path, document in comparisons:
        met += [(str(path), each) for each in met_by_comparison(document)]
    for about in [] if comparisons else [about for group in together for about in group.runs]:
        if about.config is not None:
            score = about.score() if about.whole else None
            met += [(about.name, each) for each in met_by_run(about.config, None if score is None else score[0])]
    return met


def _seeds(document: Mapping[str, Any]) -> str:
    counts = sorted({len(runs) for runs in document["runs"].values()})
    return f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"


def _compared(place: int, path: Path, document: Mapping[str, Any]) -> Section:
    """What `reverie compare` measured: training curves, evaluations, its table and its command."""
    names = sorted(document["runs"], key=lambda name: -document["summary"][name]["iqm"])
    env = document["env"]
    drawn = []
    for name in names:
        points = [
            (np.array(run["curve"]["frames"], float), np.array(run["curve"]["score"], float))
            for run in document["runs"][name]
            if run.get("curve", {}).get("frames")
        ]
        if points:
            drawn.append(aggregate(name, points, [env] * len(points)))
    blocks: list[Any] = []
    if drawn:
        caption = f"Scores of training episodes on {env}, by variant."
        blocks.append(svg.curves(drawn, X_LABELS["frames"], Y_LABELS["episode/score"], caption))
    dots = [
        svg.Dot(
            name,
            [run["score"] for run in document["runs"][name]],
            document["summary"][name]["iqm"],
            document["summary"][name].get("interval"),
        )
        for name in names
    ]
    episodes = document.get("episodes", "some")
    name = scores.middle_name(max(len(dot.values) for dot in dots))
    interval = f" and its {LEVEL * 100:g} % interval" if any(dot.interval for dot in dots) else ""
    caption = f"Evaluations of {episodes} episodes at the end, best variant on top: each seed, their {name}{interval}."
    blocks.append(svg.dots(dots, Y_LABELS["eval/score"], caption))
    head, rows = _cells(markdown(document))
    blocks.append(Table(head[: len(MEASURED)], [row[: len(MEASURED)] for row in rows]))
    if len(head) > len(MEASURED):
        foreseen = [[row[0], *row[len(MEASURED) :]] for row in rows]
        blocks.append(Table([head[0], *head[len(MEASURED) :]], foreseen, "What their models foresee"))
    settings = [[name, " ".join(document.get("variants", {}).get(name, [])) or "as the preset"] for name in names]
    blocks.append(Table(["variant", "what was set"], settings))
    about = f"In {path}: {presets(document)}, on {document.get('machine', 'a machine that is not recorded')}"
    alike = " ".join(document.get("overrides", []))
    blocks.append(Text(f"{about}{f', all with {alike}' if alike else ''}."))
    if document.get("command"):
        blocks.append(Code(str(document["command"])))
    return Section(f"comparison-{place}", "Comparison", blocks)


def _cells(lines: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table in Markdown."""
    parted = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return parted[0], parted[2:]
