"""Command that shows one run in a browser: play."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from reverie.cli.root import RUN_DIR, cli, require_run
from reverie.errors import UserError


@cli.command()
@RUN_DIR
@click.option(
    "--checkpoint", default="latest", show_default=True, help="latest, best, or env_steps of one that is kept."
)
@click.option("--start", type=click.Choice(["fresh", "replay"]), default="fresh", show_default=True, help="First rows.")
@click.option("--record", type=click.Path(path_type=Path), metavar="FOLDER", help="Where play may be recorded.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of episodes and dreams.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of torch.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Another one can be reached from elsewhere.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0: a free one.")
@click.option("--browser/--no-browser", default=None, help="Open a browser [if there is one].")
def play(
    run_dir: Path,
    checkpoint: str,
    start: str,
    record: Path | None,
    device: str,
    seed: int,
    threads: int,
    host: str,
    port: int,
    browser: bool | None,
) -> None:
    """Play inside the dream of the run in DIR, in a browser, with the world beside it and what the agent makes of both.

    A run that is being trained is shown as of its newest checkpoint. Ctrl-C ends it.
    """
    require_run(run_dir)
    import os
    import threading
    import webbrowser
    from contextlib import suppress

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError(f"the page needs {error.name}; install it with: pip install 'reverie-rl[play]'") from error
    import torch

    from reverie.play.page.recording import Recording
    from reverie.play.page.server import Page, address, is_local, listen, serve
    from reverie.play.page.subject import Subject

    torch.set_num_threads(threads)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # environments draw for the page, not for a screen
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    opener = None
    if browser is not False:
        with suppress(webbrowser.Error):
            opener = webbrowser.get()
        # One in the terminal cannot show the page; what $BROWSER names is what the user wants.
        if type(opener) is webbrowser.GenericBrowser and "BROWSER" not in os.environ:
            opener = None
        if opener is None and browser:
            raise UserError("there is no browser to open here; leave --browser out and open the address")
    subject = Subject(run_dir, checkpoint, device, seed)
    if start == "replay" and not subject.describe()["replay"]:
        raise UserError(f"{run_dir} has no replay to start from; leave --start out")
    about = {
        "run": run_dir.name,
        "agent": subject.config.name,
        "env": subject.spec.id,
        "protocol": subject.spec.protocol,
        "options": dict(subject.config.env.options),
        "env_steps": subject.env_steps,
    }
    recording = None if record is None else Recording(record, subject.spec, about)
    key = secrets.token_urlsafe(24)
    listening = listen(host, port)
    hosts = frozenset(("127.0.0.1", "localhost", "::1")) if is_local(host) else None
    where = address(listening, host, key)

    def ready() -> None:
        click.echo(f"{subject.config.name} on {subject.spec.id}, after {subject.env_steps} env_steps")
        click.echo(f"open {where}")
        if not is_local(host):
            click.echo(f"note: {host} is reached from elsewhere too: whoever has this address can play", err=True)
        click.echo("Ctrl-C ends it")
        if opener is not None:
            threading.Thread(target=opener.open, args=(where,), daemon=True).start()

    serve(Page(subject, key, hosts, recording, start), listening, ready)
