"""Command that lets a run's networks leave the library: export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reverie.cli.root import AS_JSON, RUN_DIR, cli, given, require_run, show
from reverie.errors import UserError


@cli.command()
@RUN_DIR
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(["onnx", "torch", "web"]), required=True, help="What it is written as.")
@click.option(
    "--checkpoint", default="latest", show_default=True, help="latest, best, or env_steps of one that is kept."
)
@click.option(
    "--runtime",
    type=click.Path(path_type=Path),
    help="Of web: folder of the npm package onnxruntime-web [node_modules here or above].",
)
@click.option("--starts", type=click.IntRange(1), default=8, show_default=True, help="Of web: states to begin from.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of web: of these states.")
@AS_JSON
def export(run_dir: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Write the policy and the world model of the run in DIR into a new folder OUT.

    onnx: for any ONNX runtime; torch: for torch without this library; web: a page to play in the dream, static files
    for any server. A model card lies beside them.
    """
    require_run(run_dir)
    if options["to"] != "web" and (alone := given("runtime", "starts", "seed")):
        raise UserError(f"--{alone[0]} is of --to web; leave it out")
    from reverie.export.export import export as write

    show(write(run_dir, out, **options), as_json)
