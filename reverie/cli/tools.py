"""Commands that need no run: list, doctor, check-env, demo."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from reverie.cli.root import cli
from reverie.errors import UserError, suggest

T = TypeVar("T")
WIDTH = 100
"""columns of listings"""


@cli.command("list")
@click.argument("what", type=click.Choice(["agents", "envs", "presets"]), required=False)
@click.argument("which", required=False)
def list_(what: str | None, which: str | None) -> None:
    """List agents, environments and presets: in short, or all of one kind, or those of one agent or family.

    reverie list; reverie list envs; reverie list envs ALE; reverie list presets dqn
    """
    if what is not None:
        for line in {"agents": _agents, "envs": _envs, "presets": _presets}[what](which):
            click.echo(f"  {line}")
        return
    click.secho("agents", bold=True, nl=False)
    click.echo(", their presets, the default first       more: reverie list agents, reverie list presets")
    for line in _agents_in_short():
        click.echo(f"  {line}")
    click.secho("envs", bold=True, nl=False)
    click.echo("                                         all: reverie list envs, reverie list envs ALE")
    for line in _envs_in_short():
        click.echo(f"  {line}")


@cli.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check this installation: libraries, device, environments, rendering, disk, speed."""
    from reverie.doctor import report

    ctx.exit(report(click.echo))


@cli.command("check-env", context_settings={"ignore_unknown_options": True})
@click.argument("env")
@click.option(
    "--steps", "env_steps", type=click.IntRange(1), default=1000, show_default=True, help="env_steps to take."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--env.options.KEY value]...")
@click.pass_context
def check_env(ctx: click.Context, env: str, env_steps: int, seed: int, overrides: tuple[str, ...]) -> None:
    """Step ENV with random actions and check that it keeps the contract.

    Its protocol and options are set as for training: --env.protocol atari-84, --env.options.flicker 0.5.
    """
    from reverie.envs.check import check_env as check

    result = check(env, env_steps, seed, **_env_options(env, overrides))
    for line in result.lines() if hasattr(result, "lines") else [f"{k}: {v}" for k, v in vars(result).items()]:
        click.echo(line)
    ctx.exit(0 if result.ok else 1)


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-run"), show_default=True)
def demo(out: Path) -> None:
    """Learn a small game in a few minutes on a CPU, and show the score and the dreams."""
    from reverie.play.demo import demo as show

    show(out)


def _env_options(env: str, words: tuple[str, ...]) -> dict[str, Any]:
    """The protocol and the options of an environment among overrides, as keyword arguments; nothing else may be set."""
    if not words:
        return {}
    from reverie import overrides
    from reverie.config import EnvConfig

    settings = overrides.parse(words)
    for key in settings:
        if key != "env.protocol" and not key.startswith("env.options"):
            raise UserError(f"{key} does not change what is checked; set env.protocol or env.options")
    config = overrides.apply(EnvConfig(env), {key.removeprefix("env."): value for key, value in settings.items()})
    return {**({} if config.protocol == "auto" else {"protocol": config.protocol}), **config.options}


def _agents(which: str | None = None) -> list[str]:
    from reverie.agents import agents

    entries = _only(which, agents(), "agent")
    width = max(map(len, entries))
    papers = {name: f" ({entry.paper})" if entry.paper else "" for name, entry in entries.items()}
    return [part for name, entry in entries.items() for part in _wrapped(name, f"{entry.summary}{papers[name]}", width)]


def _agents_in_short() -> list[str]:
    """A line for each agent: name, presets without the kinds of one, which are chosen by themselves."""
    from reverie.presets import presets

    by_agent = presets()
    width = max(map(len, by_agent))
    return [
        f"{agent:<{width}}  {textwrap.shorten(', '.join(_without_kinds(names)), WIDTH - width - 4, placeholder=' ...')}"
        for agent, names in by_agent.items()
    ]


def _without_kinds(names: list[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{other}-") for other in names if other == "cpu")]


def _envs(which: str | None = None) -> list[str]:
    from reverie.envs.make import env_names

    names = _only(which, env_names(), "family")
    width = max(map(len, names))
    return [
        part for family, ids in names.items() for part in _wrapped(family, ", ".join(ids) or "not installed", width)
    ]


def _envs_in_short() -> list[str]:
    """A line for each family: how many ids, and as many of them as fit."""
    from reverie.envs.make import env_names

    names = env_names()
    width = max(map(len, names))
    lines = []
    for family, ids in names.items():
        room, shown = WIDTH - width - 14, list(ids)
        while len(", ".join(shown)) > room:
            shown.pop()
        more = ", ..." if len(shown) < len(ids) else ""
        lines.append(
            f"{family:<{width}}  {len(ids):>4}  {', '.join(shown)}{more}"
            if ids
            else f"{family:<{width}}     -  not installed"
        )
    return lines


def _presets(which: str | None = None) -> list[str]:
    """The presets of agents, and by name alone those over other bases than an agent's usual one."""
    from reverie.presets import bases_of, describe, presets, presets_of

    by_agent = _only(which, presets(), "agent")
    width = max(len(f"{agent} {name}") for agent, names in by_agent.items() for name in names)
    lines = []
    for agent, names in by_agent.items():
        for name in names:
            lines += _wrapped(f"{agent} {name}", describe(agent, name), width)
        for base in bases_of(agent)[1:]:
            lines += _wrapped(agent, f"with --agent.base {base}: {', '.join(presets_of(agent, base))}", width)
    return lines


def _only(which: str | None, entries: Mapping[str, T], kind: str) -> dict[str, T]:
    """All entries, or the one that is named. Raises UserError, with near names, for one that is not there."""
    if which is not None and which not in entries:
        raise UserError(f"unknown {kind} {which!r}{suggest(which, entries)}")
    return {name: entry for name, entry in entries.items() if which in (None, name)}


def _wrapped(name: str, text: str, width: int) -> list[str]:
    """A name with its text beside it, in lines that a screen has."""
    parts = textwrap.wrap(text, WIDTH - width - 4, break_on_hyphens=False)
    return [f"{name if number == 0 else '':<{width}}  {part}" for number, part in enumerate(parts)]
