"""Command on the models that come with the package: zoo."""

from __future__ import annotations

import click

from reverie.cli.root import AS_JSON, cli, show


@cli.command()
@AS_JSON
def zoo(as_json: bool) -> None:
    """List the small trained models that come with the package.

    Each name stands where a run's DIR does: reverie eval zoo/catch, reverie dream zoo/catch, reverie report zoo/catch.
    What is made of it goes to zoo-NAME in the current directory.
    """
    from reverie.run.zoo import entries, summary

    models = [summary(entry) for entry in entries()]
    if as_json:
        show({"models": models}, as_json)
        return
    rows = [("model", "agent", "environment", "score", "random", "best", "size")]
    rows += [
        (
            model["model"],
            model["agent"],
            model["env"],
            f"{model['score']:.3g}",
            f"{model['random']:.3g}",
            f"{model['best']:.3g}",
            f"{model['bytes'] / 1e6:.1f} MB",
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for model in models:
        click.echo(f"\n{model['model']}  {model['about']}")
        click.echo(f"  {model['command']}   # {model['minutes']:g} min on {model['machine']}")
        click.echo(f"  score: mean of {model['episodes']} greedy episodes from seed {model['seed']}")
