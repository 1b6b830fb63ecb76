"""Command on a run that somebody else trains: status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from reverie.cli.root import AS_JSON, RUN_DIR, cli, require_run, show


@cli.command()
@RUN_DIR
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
@AS_JSON
def status(run_dir: Path, watch: bool, as_json: bool) -> None:
    """Show how the run in DIR stands: clocks, speeds, what it waits for, each of its processes, or members."""
    from reverie.run.status import EVERY, read_status

    require_run(run_dir)
    while True:
        state = read_status(run_dir)
        if watch:
            click.clear()
        parts = ("learners", "actors", "shards", "members")
        tables = [] if as_json else [state.pop(name, []) for name in parts]
        show(state, as_json)
        for lines in filter(None, tables):
            _table(lines)
        if not watch:
            return
        time.sleep(EVERY)


def _table(lines: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*(name.replace("_", " ") for name in lines[0]))
    for line in lines:
        values = line | ({"memory": f"{line['memory'] / 1e6:.0f} MB"} if "memory" in line else {})
        table.add_row(*("-" if value is None else str(value) for value in values.values()))
    Console().print(table)
