"""The command line: ``reverie train dreamerv2 --env toy/catch --agent.rssm.deter 600``.

Errors of the user are one line on standard error and exit code 2. Heavy modules are imported by the commands that need
them, so that help and slips of the keyboard are answered at once.
"""

from __future__ import annotations

import errno
import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from reverie import __version__
from reverie.errors import UserError, suggest

if TYPE_CHECKING:
    from reverie.config import Config

USERS_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the file system that the user has to mend."""


class OneLineErrors(click.Group):
    """A group of commands whose user errors are one line: exit code 2, or 130 for Ctrl-C."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = "reverie", **extra: Any
    ) -> NoReturn:
        """Run the command line and exit."""
        try:
            result = super().main(args, prog_name, **extra | {"standalone_mode": False})
        except UserError as error:
            _fail(str(error))
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


def _fail(message: str) -> NoReturn:
    click.echo(f"reverie: error: {' '.join(message.split())}", err=True)
    sys.exit(2)


@click.group(cls=OneLineErrors, invoke_without_command=True)
@click.version_option(__version__, prog_name="reverie")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Reverie: agents that remember and dream."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


RUN_DIR = click.argument("run_dir", metavar="DIR", type=click.Path(path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("agent")
@click.option("--preset", help="Sizes and settings; see `reverie list presets`.")
@click.option("--env", help="Environment; see `reverie list envs`.")
@click.option(
    "--logdir", type=click.Path(path_type=Path), help="Run directory [runs/<agent>-<env>-<preset>-seed<seed>]."
)
@click.option("--frames", help="Length of the run in frames (env_steps x action repeat).")
@click.option("--env_steps", "--env-steps", help="Length of the run in env_steps (decisions).")
@click.option("--seed", help="Seed of everything random.")
@click.option("--device", help="auto, cpu or cuda.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--key value]...")
def train(
    agent: str,
    preset: str | None,
    env: str | None,
    logdir: Path | None,
    overrides: tuple[str, ...],
    **short: str | None,
) -> None:
    """Train AGENT, or go on with the same command's run.

    Any key of the configuration can be set: --agent.gamma 0.99, --replay.batch=32, run.log_every=500. The same command
    with the same directory resumes the run that is there.
    """
    from reverie.agents import AGENTS

    if agent.startswith("-"):
        raise UserError(f"the agent comes first: reverie train AGENT {agent} ...")
    if agent not in AGENTS:
        raise UserError(f"unknown agent {agent!r}{suggest(agent, AGENTS)}")
    if short["frames"] is not None and short["env_steps"] is not None:
        raise UserError("--frames and --env_steps both say how long the run is; give one of them")
    config = _configure(agent, preset, env, overrides, short)
    run_dir = logdir or Path("runs") / _run_name(config)
    if (run_dir / "config.json").exists():
        from reverie.run.local import resume as go_on

        _check_same(config, run_dir)
        click.echo(f"resuming {run_dir}")
        _print(go_on(run_dir))
    elif run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"--logdir {run_dir} is a file; name a directory")
    else:
        from reverie.run.local import train as begin

        click.echo(f"{config.name} ({config.preset}) on {config.env.id}, in {run_dir}")
        _print(begin(config, run_dir))


@cli.command()
@RUN_DIR
def resume(run_dir: Path) -> None:
    """Go on with the run in DIR from its newest checkpoint."""
    _require_run(run_dir)
    from reverie.run.local import resume as go_on

    _print(go_on(run_dir))


@cli.command("eval")
@RUN_DIR
@click.option("--episodes", type=click.IntRange(1), default=10, show_default=True)
@click.option("--video", is_flag=True, help="Also write a video of an episode.")
@click.option("--seed", type=int, default=0, show_default=True)
@AS_JSON
def evaluate(run_dir: Path, episodes: int, video: bool, seed: int, as_json: bool) -> None:
    """Play episodes with the newest policy of the run in DIR."""
    _require_run(run_dir)
    from reverie.run.evaluate import evaluate as play

    _print(play(run_dir, episodes=episodes, video=video, seed=seed), as_json)


@cli.command()
@RUN_DIR
@click.option("--context", type=click.IntRange(1), default=5, show_default=True, help="Observations that are seen.")
@click.option("--horizon", type=click.IntRange(1), default=45, show_default=True, help="env_steps dreamed after them.")
@click.option("--episodes", type=click.IntRange(1), default=6, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where the pictures go [DIR/videos].")
@AS_JSON
def dream(run_dir: Path, context: int, horizon: int, episodes: int, out: Path | None, as_json: bool) -> None:
    """Show what the world model of the run in DIR dreams beside what really happened."""
    _require_run(run_dir)
    from reverie.run.dream import dream as imagine

    _print(imagine(run_dir, context=context, horizon=horizon, episodes=episodes, out=out), as_json)


@cli.command("plot")
@click.argument("paths", nargs=-1, metavar="RUN_OR_DIR...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("curves.png"), show_default=True)
@click.option("--x", type=click.Choice(["frames", "env_steps", "minutes"]), default="frames", show_default=True)
@click.option("--metric", default="episode/score", show_default=True, help="A name in metrics.jsonl.")
@click.option(
    "--group",
    type=click.Choice(["agent", "env", "config"]),
    multiple=True,
    help="What runs of one curve have in common; may be repeated [all three].",
)
@click.option(
    "--normalise",
    type=click.Choice(["auto", "off", "human"]),
    default="auto",
    show_default=True,
    help="Scores relative to random play and people; auto: if all games have such scores.",
)
def plot_(paths: tuple[Path, ...], **options: Any) -> None:
    """Draw learning curves of runs, or of all runs in a folder: a picture, a CSV beside it, and a table."""
    from reverie.report.plot import plot as draw

    drawn = draw(paths, **options)
    for note in drawn.notes:
        click.echo(f"note: {note}", err=True)
    for line in (*drawn.table, f"picture  {drawn.picture}", f"numbers  {drawn.csv}"):
        click.echo(line)


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
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True, help="env_steps to take.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--env.options.KEY value]...")
@click.pass_context
def check_env(ctx: click.Context, env: str, steps: int, seed: int, overrides: tuple[str, ...]) -> None:
    """Step ENV with random actions and check that it keeps the contract.

    Its protocol and options are set as for training: --env.protocol atari-84, --env.options.flicker 0.5.
    """
    from reverie.envs.check import check_env as check

    found = check(env, steps, seed, **_env_options(env, overrides))
    lines = found.lines() if hasattr(found, "lines") else [f"{name}: {value}" for name, value in vars(found).items()]
    for line in lines:
        click.echo(line)
    ctx.exit(0 if found.ok else 1)


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-run"), show_default=True)
def demo(out: Path) -> None:
    """Learn a small game in a few minutes on a CPU, and show the score and the dreams."""
    from reverie.run.demo import demo as show

    show(out)


def _configure(
    agent: str, preset: str | None, env: str | None, words: tuple[str, ...], short: Mapping[str, str | None]
) -> Config:
    """The preset's configuration with the short options and then all other overrides set."""
    from reverie import overrides
    from reverie.presets import make_config

    given = {f"run.{name}": value for name, value in short.items() if value is not None}
    given |= overrides.parse(words)
    config = make_config(agent, preset, given.pop("env.id", None) or env)
    return overrides.apply(config, given)


def _env_options(env: str, words: tuple[str, ...]) -> dict[str, Any]:
    """The protocol and the options of an environment among overrides, as keyword arguments; nothing else may be set."""
    if not words:
        return {}
    from reverie import overrides
    from reverie.config import EnvConfig

    given = overrides.parse(words)
    for key in given:
        if key != "env.protocol" and not key.startswith("env.options"):
            raise UserError(f"{key} does not change what is checked; set env.protocol or env.options")
    config = overrides.apply(EnvConfig(env), {key.removeprefix("env."): value for key, value in given.items()})
    return {**({} if config.protocol == "auto" else {"protocol": config.protocol}), **config.options}


def _run_name(config: Config) -> str:
    env = re.sub(r"[^\w.-]+", "_", config.env.id)
    return f"{config.name}-{env}-{config.preset}-seed{config.run.seed}"


def _check_same(config: Config, run_dir: Path) -> None:
    """Raise UserError, naming what differs, if the run in `run_dir` has another configuration."""
    from reverie.overrides import flatten
    from reverie.run.saved_config import load_config

    saved = load_config(run_dir)
    if saved == config:
        return
    there, here = flatten(saved), flatten(config)
    changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    shown = ", ".join(f"{key} is {there.get(key)!r} there, {here.get(key)!r} here" for key in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise UserError(
        f"{run_dir} holds another run ({shown}{more}); go on with that by: reverie resume {run_dir}, "
        "or name another --logdir"
    )


def _require_run(run_dir: Path) -> None:
    if not (run_dir / "config.json").exists():
        raise UserError(f"{run_dir} is not a run directory: it has no config.json")


def _print(result: Mapping[str, Any], as_json: bool = False) -> None:
    """A result as aligned lines, long lists left out; or all of it as JSON."""
    if as_json:
        click.echo(json.dumps(result, indent=2, default=str))
        return
    shown = {name: value for name, value in result.items() if not (isinstance(value, list | tuple) and len(value) > 12)}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")


def _agents() -> list[str]:
    from reverie.agents import AGENTS

    width = max(map(len, AGENTS))
    return [f"{name:<{width}}  {entry.summary} ({entry.paper})" for name, entry in AGENTS.items()]


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

    known = presets()
    width = max(len(f"{agent} {name}") for agent, names in known.items() for name in names)
    return [
        f"{f'{agent} {name}':<{width}}  {describe(agent, name)}" for agent, names in known.items() for name in names
    ]


def main() -> None:
    """The ``reverie`` command."""
    cli.main()


if __name__ == "__main__":
    main()
