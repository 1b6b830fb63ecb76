"""Commands on one run: train, resume, eval, dream, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reverie.cli.keys import WithKeys
from reverie.cli.root import AS_JSON, RUN_DIR, RunDir, cli, folder_name, given, require_run, show
from reverie.errors import UserError

if TYPE_CHECKING:
    from reverie.config import Config


@cli.command(cls=WithKeys, context_settings={"ignore_unknown_options": True})
@click.argument("agent", required=False)
@click.option("--preset", help="Sizes and settings; see `reverie list presets`.")
@click.option("--env", help="Environment; see `reverie list envs`. Several for one network: A,B.")
@click.option(
    "--logdir", type=click.Path(path_type=Path), help="Run directory [runs/<agent>-<env>-<preset>-seed<seed>]."
)
@click.option("--frames", help="Length of the run in frames (env_steps x action repeat).")
@click.option("--env_steps", "--env-steps", help="Length of the run in env_steps (decisions).")
@click.option("--seed", help="Seed of everything random.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="YAML or JSON with keys, some or all.")
@click.option("--actors", help="Processes that act, on Ray; 0: beside the learner. See docs/distributed.md.")
@click.option("--population", help="Members of a population that learns its rates too; see docs/population.md.")
@click.option("--init", metavar="RUN", help="Begin with the networks of another run; --init.parts encoder: with some.")
@click.option("--dataset", metavar="DIR", help="Learn without acting, from another run's replay/ or from minari:NAME.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--key value]...")
def train(
    agent: str | None,
    preset: str | None,
    env: str | None,
    logdir: Path | None,
    file: Path | None,
    actors: str | None,
    population: str | None,
    init: str | None,
    dataset: str | None,
    overrides: tuple[str, ...],
    **short: str | None,
) -> None:
    """Train AGENT, or go on with the same command's run.

    Any key of the configuration can be set: --agent.gamma 0.99, --replay.batch=32, run.log_every=500; `reverie config
    AGENT` tells them all. The same command with the same directory resumes the run that is there.
    """
    from reverie.agents import find
    from reverie.run.configure import check_same, configure

    if agent is not None and agent.startswith("-") and file is not None:  # which may name the agent
        overrides, agent = (agent, *overrides), None
    if agent is not None and agent.startswith("-"):
        raise UserError(f"the agent comes first: reverie train AGENT {agent} ...")
    if agent is not None:
        find(agent)
    shorter = {"init.run": init, "ray.actors": actors, "dataset.path": dataset}
    shorter |= {"population.size": population}
    overrides = (*(f"--{key}={value}" for key, value in shorter.items() if value is not None), *overrides)
    config = configure(agent, preset, env, overrides, short, file)
    run_dir = logdir or Path("runs") / _run_name(config)
    begun = (run_dir / ("population.json" if config.population.size else "config.json")).exists()
    if config.dataset.path:
        from reverie.run.offline import for_dataset

        config = for_dataset(config, run_dir if begun and not config.population.size else None)
    if begun:
        from reverie.run.train import resume as go_on

        check_same(config, run_dir)
        click.echo(f"resuming {run_dir}")
        show(go_on(run_dir))
    elif run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"--logdir {run_dir} is a file; name a directory")
    else:
        from reverie.run.train import train as begin

        click.echo(f"{config.name} ({config.preset}) on {config.env.id}, in {run_dir}")
        show(begin(config, run_dir))


@cli.command(context_settings={"ignore_unknown_options": True})
@RUN_DIR
@click.option("--frames", help="New length of the run in frames (env_steps x action repeat).")
@click.option("--env_steps", "--env-steps", help="New length of the run in env_steps (decisions).")
@click.option("--seed", help="All generators begin anew from this seed.")
@click.option("--device", help="auto, cpu or cuda.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--key value]...")
def resume(run_dir: Path, overrides: tuple[str, ...], **short: str | None) -> None:
    """Go on with the run in DIR from its newest checkpoint.

    Exactly as it was, or with other settings from there on: longer (--frames), with --agent.opt.lr 1e-4, on another
    --device, with any key that leaves networks and replay their shapes. config.json keeps what was before.
    """
    require_run(run_dir)
    from reverie.run.configure import short_settings
    from reverie.run.train import resume as go_on

    settings = short_settings(short, overrides)
    show(go_on(run_dir, settings) if settings else go_on(run_dir))


@cli.command(context_settings={"ignore_unknown_options": True})
@RUN_DIR
@click.argument("to", metavar="NEW_DIR", type=click.Path(path_type=Path))
@click.option("--checkpoint", default="latest", show_default=True, help="latest, or the env_steps of another.")
@click.option("--frames", help="Length of the branch in frames, from the beginning of the run.")
@click.option("--env_steps", "--env-steps", help="Length of the branch in env_steps, from the beginning of the run.")
@click.option("--seed", help="All generators begin anew from this seed.")
@click.option("--device", help="auto, cpu or cuda.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--key value]...")
def branch(run_dir: Path, to: Path, checkpoint: str, overrides: tuple[str, ...], **short: str | None) -> None:
    """Go on from a checkpoint of the run in DIR in a NEW_DIR, with other settings; the run in DIR is left alone."""
    require_run(run_dir)
    from reverie.run.branch import branch as fork
    from reverie.run.configure import short_settings

    show(fork(run_dir, to, short_settings(short, overrides), checkpoint=checkpoint))


@cli.command("eval", context_settings={"ignore_unknown_options": True})
@RUN_DIR
@click.option("--episodes", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--checkpoint", default="latest", show_default=True, help="latest, best, or env_steps of one that is kept."
)
@click.option("--env", help="Another environment, with spaces that fit [the run's].")
@click.option("--play", type=click.Choice(["greedy", "explore", "random"]), default="greedy", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@click.option("--video", is_flag=True, help="Also write a video, with score and actions.")
@click.option("--video-episodes", type=click.IntRange(1), default=1, show_default=True, help="Episodes in the video.")
@click.option("--render", type=click.Choice(["human"]), help="human: watch in a window.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of evaluation.json and videos [DIR; of zoo/NAME: zoo-NAME]."
)
@click.option("--in-dream", is_flag=True, help="Also play in the agent's own world model, and say what it earns there.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@AS_JSON
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--env.KEY value]...")
def evaluate(run_dir: Path, overrides: tuple[str, ...], render: str | None, as_json: bool, **options: Any) -> None:
    """Play episodes with a policy of the run in DIR.

    As it was trained, or elsewhere: --env ID, --env.protocol atari-84, --env.options.flicker 0.5.
    """
    require_run(run_dir)
    if given("video_episodes") and not options["video"]:
        raise UserError("--video-episodes is of the video; add --video")
    from reverie.overrides import parse
    from reverie.play.evaluate import evaluate as play

    show(play(run_dir, settings=parse(overrides), window=render == "human", **options), as_json)


@cli.command()
@RUN_DIR
@click.option("--context", type=click.IntRange(1), default=5, show_default=True, help="Observations that are seen.")
@click.option("--horizon", type=click.IntRange(1), default=45, show_default=True, help="env_steps dreamed after them.")
@click.option("--episodes", type=click.IntRange(1), default=6, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where the pictures go [DIR/videos].")
@AS_JSON
def dream(run_dir: Path, context: int, horizon: int, episodes: int, out: Path | None, as_json: bool) -> None:
    """Show what the world model of the run in DIR dreams beside what really happened."""
    require_run(run_dir)
    from reverie.play.dream import dream as imagine

    show(imagine(run_dir, context=context, horizon=horizon, episodes=episodes, out=out), as_json)


@cli.command()
@click.argument("run_dirs", nargs=-1, required=True, metavar="DIR...", type=RunDir())
@click.option("--html", type=click.Path(path_type=Path), help="Write a document on all of them, one file.")
@click.option("--context", type=click.IntRange(1), default=5, show_default=True, help="Rows that are seen.")
@click.option("--horizon", type=click.IntRange(1), default=45, show_default=True, help="env_steps dreamed after them.")
@click.option("--sequences", type=click.IntRange(1), default=100, show_default=True, help="Held-out sequences.")
@click.option("--random-play", is_flag=True, help="Sequences of random actions: one behaviour for every agent.")
@click.option("--threshold", type=float, help="Of a reward [half the smallest magnitude seen].")
@click.option("--gif", is_flag=True, help="Also a GIF of the sequences with the most false reward.")
@click.option("--episodes", type=click.IntRange(1), default=3, show_default=True, help="Sequences in the GIF.")
@click.option("--out", type=click.Path(path_type=Path), help="Where it goes [DIR/report].")
@click.option("--no-dreams", is_flag=True, help="Make no dreams for the document; those that are there are shown.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@AS_JSON
def report(
    run_dirs: tuple[Path, ...],
    html: Path | None,
    no_dreams: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure what the world model of the run in DIR foresees: errors, calibration, rewards that are not there.

    With --html, or of several runs or a folder of `reverie compare`: a document on all that they tell, one HTML file
    [report.html]: what was run, curves, evaluations, dreams, time, changes, configuration, claims.
    """
    said = given(*options, "no_dreams")
    if html is None and len(run_dirs) == 1 and not (run_dirs[0] / "comparison.json").exists():
        if "no_dreams" in said:
            raise UserError("--no-dreams is of the document; add --html FILE")
        if "episodes" in said and not options["gif"]:
            raise UserError("--episodes is of sequences in the GIF; add --gif")
        require_run(run_dirs[0])
        from reverie.play.foresight import report as measure

        show(measure(run_dirs[0], **options), as_json)
        return
    for name in said:
        if name not in ("context", "horizon", "seed", "no_dreams"):
            raise UserError(f"--{name.replace('_', '-')} is of one run's numbers; leave it or --html out")
    from reverie.study.html import html_report

    context = options["context"] if "context" in said else None
    result = html_report(
        run_dirs,
        html or Path("report.html"),
        context=context,
        horizon=options["horizon"],
        seed=options["seed"],
        make_dreams=not no_dreams,
    )
    show(result, as_json)


def _run_name(config: Config) -> str:
    population = f"-population{config.population.size}" if config.population.size else ""
    return folder_name(f"{config.name}-{config.env.id}-{config.preset}{population}-seed{config.run.seed}")
