"""The group of commands, its errors, and what several commands share."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any, NoReturn

import click
from click.core import ParameterSource

from reverie import __version__
from reverie.errors import UserError, suggest

USERS_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
USERS_DISK |= {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
"""Errors of the file system that the user has to mend: space, permissions, files where folders should be."""


LONGEST = 200
"""bytes of a folder's name that we choose; file systems have room for 255"""


class OneLineErrors(click.Group):
    """A group of commands whose user errors are one line: exit code 2, or 130 for Ctrl-C."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = "reverie", **extra: Any
    ) -> NoReturn:
        """Run the command line and exit."""
        try:
            _check_given(sys.argv[1:] if args is None else args)
            result = super().main(args, prog_name, **extra | {"standalone_mode": False})
        except UserError as error:
            _fail(str(error), error.detail)
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort as error:
            if not isinstance(error.__cause__, KeyboardInterrupt):
                raise
            sys.exit(130)
        except OSError as error:
            if error.errno not in USERS_DISK:
                raise
            _fail(f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}; free some space")
        sys.exit(result if isinstance(result, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one gets near names."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UserError(f"unknown command {args[0]!r}{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _check_given(words: Sequence[str]) -> None:
    """Raise UserError for an empty word, as an unset shell variable leaves it; a dotted key may be given none."""
    for before, word in zip(["", *words], words, strict=False):
        if word == "" and not before.startswith("--"):
            raise UserError("one of the words is empty; see which variable of the shell is unset")
        option = before if word == "" else word.removesuffix("=") if word.endswith("=") else ""
        if option.startswith("--") and "." not in option and "=" not in option:
            raise UserError(f"{option} is given no value; leave it out, or see which variable of the shell is unset")


def _fail(message: str, detail: str = "") -> NoReturn:
    click.echo(f"reverie: error: {' '.join(message.split())}", err=True)
    if detail:
        click.echo(textwrap.indent(detail, "    "), err=True)
    sys.exit(2)


@click.group(cls=OneLineErrors, invoke_without_command=True)
@click.version_option(__version__, prog_name="reverie")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Reverie: agents that remember and dream."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class RunDir(click.Path):
    """Type of a run's directory on the command line: a path, or ``zoo/<name>``, see `reverie.run.zoo`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The directory. Raises UserError for a name that the zoo has not."""
        from reverie.run.zoo import resolve

        return resolve(Path(os.fsdecode(super().convert(value, param, ctx))))


RUN_DIR = click.argument("run_dir", metavar="DIR", type=RunDir())
_OUT = f"{__name__}.out"


@contextmanager
def _kept_apart() -> Iterator[IO[str]]:
    """Standard output, as a file; meanwhile whatever else is printed, by C libraries too, goes to standard error."""
    out = sys.stdout
    if out is None:  # it was closed before: there is nobody to tell
        yield io.StringIO()
        return
    out.flush()
    try:
        number = out.fileno()
    except (OSError, ValueError):  # no file of the operating system: in tests
        with redirect_stdout(sys.stderr):
            yield out
        return
    with os.fdopen(os.dup(number), "w") as kept, redirect_stdout(sys.stderr):
        os.dup2(sys.stderr.fileno(), number)
        try:
            yield kept
        finally:
            kept.flush()
            os.dup2(kept.fileno(), number)


def _keep_apart(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if value:
        ctx.meta[_OUT] = ctx.with_resource(_kept_apart())
    return value


AS_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_keep_apart,
    help="Print the result as JSON, and nothing else on standard output.",
)


def given(*names: str) -> list[str]:
    """Those options, by their parameters' names, that the running command was given a value for."""
    source = click.get_current_context().get_parameter_source
    return [name for name in names if source(name) not in (None, ParameterSource.DEFAULT)]


def require_run(run_dir: Path) -> None:
    """Raise UserError unless it is a run directory, or a population's."""
    if not any((run_dir / name).exists() for name in ("config.json", "population.json")):
        raise UserError(f"{run_dir} is not a run directory: it has no config.json")


def folder_name(name: str) -> str:
    """A name as a folder can have it: of ``package.module:Class`` and ``ALE/Pong-v5`` without colons and slashes.

    Of one that is too long, of many environments, the beginning and a checksum.
    """
    name = re.sub(r"[^\w.-]+", "_", name)
    if len(name.encode()) <= LONGEST:
        return name
    return f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{zlib.crc32(name.encode()):08x}"


def show(result: Mapping[str, Any], as_json: bool = False) -> None:
    """Echo a result as aligned lines, groups as dotted names, long lists and those in groups left out; or as JSON."""
    if as_json:
        from reverie.report.record import to_json

        click.echo(to_json(result, 2), file=click.get_current_context().meta[_OUT])
        return
    from reverie.report.words import number

    items = {
        name: value
        for name, value in _flat(result).items()
        if not (isinstance(value, list | tuple) and (len(value) > 12 or "." in name))
    }
    width = max((len(name) for name in items), default=0)
    for name, value in items.items():
        click.echo(f"{name:<{width}}  {number(value) if isinstance(value, float) else value}")


def _flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in result.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def main() -> None:
    """The ``reverie`` command."""
    cli.main()
