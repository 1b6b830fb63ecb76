"""Sections of a document on runs that are about settings: where they differ, the whole of them, and their commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reverie import overrides
from reverie.config import Config
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.report.page import Code, Folded, Section, Table, Text
from reverie.run.chain import differences
from reverie.run.zoo import model_name, read_entry
from reverie.study.about import About
from reverie.study.curves_of import Group


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
    # Settings of a part that another took the place of (a selector) are none of this one.
    has = overrides.flatten(config)
    given = {key: new for key, (_, new) in changed.items() if key != "run.seed"}
    told = {key: new for key, new in given.items() if key in has or key.startswith(("env.", "log.options."))}
    return shlex.join([*words, *(f"--{key}={overrides.text(value)}" for key, value in told.items())])


def _text(value: Any) -> str:
    return overrides.text(value)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return leaves
