"""Commands that need no run: list, doctor, check-env, demo."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from reverie.cli.root import cli
from reverie.errors import UserError


@cli.command("list")
@click.argument("what", type=click.Choice(["agents", "envs", "presets"]), required=False)
def list_(what: str | None) -> None:
    """List agents, environments and presets."""
    for kind in [what] if what else ["agents", "envs", "presets"]:
        if not what:
            click.secho(kind, bold=True)
        for line in {"agents": _agents, "envs": _envs, "presets": _presets}[kind]():
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


def _agents() -> list[str]:
    from reverie.agents import agents

    entries = agents()
    width = max(map(len, entries))
    papers = {name: f" ({entry.paper})" if entry.paper else "" for name, entry in entries.items()}
    return [f"{name:<{width}}  {entry.summary}{papers[name]}" for name, entry in entries.items()]


def _envs() -> list[str]:
    from reverie.envs.make import env_names

    names = env_names()
    width = max(map(len, names))
    lines: list[str] = []
    for family, ids in names.items():
        wrapped = textwrap.wrap(", ".join(ids) or "not installed", 96 - width, break_on_hyphens=False)
        lines += [f"{family if number == 0 else '':<{width}}  {part}" for number, part in enumerate(wrapped)]
    return lines


def _presets() -> list[str]:
    from reverie.presets import describe, presets

    by_agent = presets()
    width = max(len(f"{agent} {name}") for agent, names in by_agent.items() for name in names)
    return [
        f"{f'{agent} {name}':<{width}}  {describe(agent, name)}" for agent, names in by_agent.items() for name in names
    ]
