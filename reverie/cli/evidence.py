"""Commands that make evidence of runs: plot, compare, reproduce."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from reverie.cli.root import RunDir, cli, folder_name, given
from reverie.errors import UserError


@cli.command("plot")
@click.argument("paths", nargs=-1, metavar="RUN_OR_DIR...", type=RunDir())
@click.option("--out", type=click.Path(path_type=Path), help="The picture [curves.png, or weights.png].")
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
@click.option("--weights", is_flag=True, help="Of one run: loss, weight and product of each group of its world model.")
def plot(paths: tuple[Path, ...], out: Path | None, weights: bool, **options: Any) -> None:
    """Draw learning curves of runs, or of all runs in a folder: a picture, a CSV beside it, and a table."""
    if weights:
        if len(paths) != 1:
            raise UserError(f"--weights draws one run, got {len(paths)}: reverie plot --weights RUN")
        for name in given("metric", "group", "normalise"):
            raise UserError(f"--{name} is of learning curves; leave it or --weights out")
        from reverie.report.weights import plot_weights
        from reverie.run.zoo import as_named

        picture, numbers = plot_weights(paths[0], out or "weights.png", options["x"], named=as_named(paths[0]))
        click.echo(f"picture  {picture}\nnumbers  {numbers}")
        return
    from reverie.report.plot import plot as draw

    files = draw(paths, out or "curves.png", **options)
    for note in files.notes:
        click.echo(f"note: {note}", err=True)
    for line in (*files.table, f"picture  {files.picture}", f"numbers  {files.csv}"):
        click.echo(line)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--agents", default="", help="Agents, with commas; each is a variant by its name.")
@click.option(
    "--variant", "variants", multiple=True, help='"name agent key=value ..."; preset=NAME is its own; may be repeated.'
)
@click.option("--env", required=True)
@click.option("--seeds", default="3", show_default=True, help="How many (0, 1, ...), or which: 3,4,5")
@click.option("--frames", type=click.IntRange(1), help="Length of each run [the preset's].")
@click.option("--preset", help="Of all agents [each one's first].")
@click.option("--set", "common", multiple=True, help="key=value for all variants; may be repeated.")
@click.option("--episodes", type=click.IntRange(1), default=100, show_default=True, help="Of each evaluation.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at once.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="torch threads of each run.")
@click.option(
    "--report",
    "context",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Also `reverie report --random-play --context ROWS`.",
)
@click.option("--threshold", type=float, help="Of a reward, in that report [half the smallest magnitude it sees].")
@click.option("--work", type=click.Path(path_type=Path), help="Where run directories are [OUT/runs].")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of comparison.png, .csv, .md, .json."
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[key=value]...")
def compare(
    agents: str,
    variants: tuple[str, ...],
    seeds: str,
    common: tuple[str, ...],
    overrides: tuple[str, ...],
    work: Path | None,
    out: Path,
    **options: Any,
) -> None:
    """Train and evaluate agents over seeds, and show them with intervals: a figure, a CSV and a Markdown table.

    Only what is missing is run; the same command goes on after an interruption.
    """
    from reverie.report.comparison import markdown
    from reverie.study.compare import Comparison, Variant
    from reverie.study.compare import compare as run

    all_variants = [Variant(folder_name(name), name) for name in filter(None, map(str.strip, agents.split(",")))]
    for variant in variants:
        try:
            words = shlex.split(variant)
        except ValueError as error:
            raise UserError(f"--variant {variant!r} cannot be read: {error}") from error
        if len(words) < 2:
            raise UserError(f'--variant {variant!r} needs a name and an agent: "name agent key=value ..."')
        all_variants.append(Variant(words[0], words[1], tuple(words[2:])))
    request = Comparison(
        variants=tuple(all_variants),
        seeds=_seeds(seeds),
        overrides=(*common, *overrides),
        work=work or out / "runs",
        out=out / "comparison",
        command=shlex.join(["reverie", *sys.argv[1:]]),
        **options,
    )
    for line in markdown(run(request, click.echo)):
        click.echo(line)
    click.echo(f"picture  {out / 'comparison.png'}")


def _seeds(text: str) -> tuple[int, ...]:
    """Seeds of a text: ``3`` is 0, 1, 2; ``3,4`` is 3, 4; ``3,`` is 3."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise UserError(f"--seeds {text!r} should be a number of seeds, or seeds with commas (3,4,5)")
    return tuple(numbers) if "," in text else tuple(range(numbers[0]))


@cli.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="The claims that there are.")
@click.option("--miniature", is_flag=True, help="Run the small stand-in of the claim.")
@click.option("--committed", is_flag=True, help="Run nothing: check the committed numbers only.")
@click.option("--claims", type=click.Path(path_type=Path), help="Folder of claims [those of this repository].")
@click.option("--out", type=click.Path(path_type=Path), help="Where runs and numbers go [runs/reproduce/NAME].")
@click.pass_context
def reproduce(
    ctx: click.Context,
    name: str | None,
    listing: bool,
    miniature: bool,
    committed: bool,
    claims: Path | None,
    out: Path | None,
) -> None:
    """Show again what a claim of this repository says: run it, compare with its interval; exit code 1 if it fails."""
    from reverie.study.reproduce import claims as read_claims
    from reverie.study.reproduce import claims_folder, find_claim
    from reverie.study.reproduce import reproduce as run

    folder = claims or claims_folder()
    if listing:
        by_name = read_claims(folder)
        width = max(map(len, by_name))
        for claim in by_name.values():
            small = f", miniature {claim.miniature.minutes:g} min" if claim.miniature else ""
            click.echo(f"{claim.name:<{width}}  {claim.claim} ({claim.full.minutes:g} min{small})")
        return
    if miniature and committed:
        raise UserError("--committed checks the numbers of the whole claim and runs nothing; give it or --miniature")
    if name is None:
        raise UserError("name a claim: reverie reproduce NAME; `reverie reproduce --list` shows them")
    claim = find_claim(folder, name)
    out_dir = out or Path("runs") / "reproduce" / (f"{name}-miniature" if miniature else name)
    passed = run(claim, out_dir, miniature=miniature, committed=committed, say=click.echo)
    ctx.exit(0 if passed else 1)
