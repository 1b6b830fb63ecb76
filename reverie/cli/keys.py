"""The keys of a configuration: `reverie config`, and the help of `reverie train AGENT`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reverie.cli.root import cli

if TYPE_CHECKING:
    from reverie.config import Config

WIDE = 120
"""columns where the output is no terminal"""


class WithKeys(click.Command):
    """A command on an agent, whose help ends with the agent's keys if one is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words for `get_help`, which is asked before they are taken apart."""
        ctx.meta["reverie.words"] = list(args)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        """Help text of the command, and of the keys of its agent with the preset and the environment that are named."""
        words: list[str] = ctx.meta["reverie.words"]
        if not words or words[0].startswith("-"):
            return (
                f"{super().get_help(ctx)}\n\nreverie {ctx.info_name} AGENT --help also tells every key of that agent."
            )
        from reverie.presets import make_config

        config = make_config(
            words[0], _option(words, "--preset"), _option(words, "--env"), base=_option(words, "--agent.base")
        )
        return "\n".join([super().get_help(ctx), "", *key_lines(config)])


@cli.command("config", context_settings={"ignore_unknown_options": True})
@click.argument("what", metavar="AGENT|DIR")
@click.option("--preset", help="Sizes and settings; see `reverie list presets`.")
@click.option("--env", help="Environment; see `reverie list envs`.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="YAML or JSON with some or all keys.")
@click.option("--find", multiple=True, metavar="WORD", help="Only keys with this word in name or meaning; repeatable.")
@click.option("--yaml", "form", flag_value="yaml", help="As a file for --config, with the meanings as comments.")
@click.option("--json", "form", flag_value="json", help="As a file for --config.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--key value]...")
def config_(
    what: str,
    preset: str | None,
    env: str | None,
    file: Path | None,
    find: tuple[str, ...],
    form: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Print every key of AGENT's configuration, or of the run in DIR: value, type, meaning, source.

    Dotted options are those of `reverie train`. Of a run, also what held before, and until when.
    """
    from reverie.config import POPULATION
    from reverie.errors import UserError
    from reverie.run.config_file import as_json, as_yaml
    from reverie.run.configure import configure
    from reverie.run.saved_config import load_chain
    from reverie.run.zoo import resolve

    if form is not None and find:
        raise UserError(f"--{form} writes all keys; leave --find or --{form} out")
    before: list[str] = []
    run_dir = resolve(what)
    if (run_dir / "config.json").exists() or (run_dir / POPULATION).exists():
        if preset or env or file or overrides:
            raise UserError(
                f"{what} is a run, which has its configuration; change it by: reverie resume {what} --key value"
            )
        chain = load_chain(run_dir)
        config, before = chain.config, chain.lines()
    else:
        config = configure(what, preset, env, overrides, {}, file)
    if form is not None:
        click.echo({"yaml": as_yaml, "json": as_json}[form](config))
        return
    for line in (*key_lines(config, find), *(["", "changes"] if before else []), *(f"  {line}" for line in before)):
        click.echo(line)


def key_lines(config: Config, find: Sequence[str] = ()) -> Iterator[str]:
    """Lines that tell the keys, group by group. find: words, one of which must be in the name or in the meaning."""
    import inspect

    from reverie.config import Config
    from reverie.errors import UserError
    from reverie.keys import groups
    from reverie.overrides import flatten, text
    from reverie.presets import presets_of

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    wanted = [word.lower() for word in find]
    by_group = [
        (
            group,
            [key for key in group.keys if not wanted or any(w in f"{key.name} {key.meaning}".lower() for w in wanted)],
        )
        for group in groups(config)
    ]
    if not any(keys for _, keys in by_group):
        raise UserError(f"no key of {config.name} has {' or '.join(find)} in its name or meaning")
    defaults = flatten(Config(config.name, config.preset, type(config.agent)()))
    preset = presets_of(config.name, getattr(config.agent, "base", None)).get(config.preset)
    yield f"{config.name}, preset {config.preset}, on {config.env.id}"
    if preset is not None and not find:
        yield from _wrapped(" ".join((inspect.getdoc(preset) or "").split()), width, "  ")
    for group, keys in by_group:
        if not keys:
            continue
        yield ""
        yield f"{group.name or 'the run'}  ({group.home})"
        if group.source:
            yield from _wrapped(f"Source: {group.source}", width, "  ")
        told = ""
        for key in keys:
            default = "" if defaults.get(key.name, key.value) == key.value else f"; default {text(defaults[key.name])}"
            yield f"  {key.name} = {text(key.value)}   {key.type}{default}"
            if key.meaning != told:
                yield from _wrapped(key.meaning, width, "      ")
            told = key.meaning


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _option(words: list[str], name: str) -> str | None:
    """Value of an option among words that nobody has taken apart yet."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == name and after:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
