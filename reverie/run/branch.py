"""A branch: a new run directory that goes on from a checkpoint of another, which is left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.config import with_settings
from reverie.data.chunks import chunk_path
from reverie.data.record import MissingRows
from reverie.errors import UserError
from reverie.report.document import check_free
from reverie.report.record import FILE
from reverie.run.chain import Chain
from reverie.run.checkpoint import Checkpoints, Misfit
from reverie.run.fixed import check_change, misfitting
from reverie.run.lock import alone, check_new, check_platform, interruptible
from reverie.run.saved_config import load_chain, save_chain, versions
from reverie.run.train import runner
from reverie.run.tree import load_tree
from reverie.run.zoo import check_whole, resolve

SEALED = "store/record/sealed"
"""path, in a checkpoint, of the list of chunk files"""


def branch(
    run_dir: str | Path, to: str | Path, changes: Mapping[str, Any] | None = None, *, checkpoint: str = "latest"
) -> dict[str, Any]:
    """Summary of a new run in `to`, which goes on from a checkpoint of the run in `run_dir` and is trained to its end.

    changes: dotted keys with other values from there on, see `reverie.run.transition`. checkpoint: ``latest``, or the
    env_steps of another. Rows, log and configurations until then are the branch's too; files that never change are
    shared by hard links where the disk has them.
    Raises UserError if `to` is not new, or the run cannot go on so; nothing is left in `to` then.
    """
    check_platform()
    run_dir, to = resolve(run_dir), Path(to)
    check_whole(run_dir)
    check_new(to)
    check_free(to)
    folder = Checkpoints(run_dir).find(checkpoint)
    made = load_tree(folder, (SEALED,))
    if "store" not in made:
        what, them = ("networks only, no rows to go on with", "them")
        if "workers" in made:
            what, them = ("rows of several workers apart, which a branch cannot take along", "its networks")
        raise UserError(
            f"checkpoint {folder} has {what}; begin a new run with {them}: "
            f"reverie train ... --init {run_dir} --init.checkpoint {checkpoint}"
        )
    saved = load_chain(run_dir)
    before, _ = saved.at(int(made.get("generation", 0)))
    config = with_settings(before, changes or {})
    check_change(before, config)
    chain = saved.followed_by(config, made, versions(), str(run_dir))
    with interruptible() as stop:
        _copy(run_dir, folder, made, chain, to)
        restored = False
        try:
            with runner(chain.config, to, chain) as new, alone(to):
                new.restore()
                restored = True
                return new.train(stop)
        except UserError as error:
            if not restored:
                shutil.rmtree(to)
                if isinstance(error, MissingRows):
                    raise UserError(
                        f"the rows of checkpoint {folder.name} are not in {run_dir / 'replay'} any more (a run keeps "
                        "those of its newest two): begin a new run with its networks: reverie train ... --init "
                        f"{run_dir} --init.checkpoint {folder.name}"
                    ) from error
                if isinstance(error, Misfit) and changes:
                    raise misfitting(run_dir, changes, error, before) from error
            raise


def _copy(run_dir: Path, folder: Path, made: Mapping[str, Any], chain: Chain, to: Path) -> None:
    """Fill a directory beside `to` with all that the branch needs, and give it its name when it is whole."""
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    own = partial / "checkpoints" / str(made["env_steps"])
    try:
        own.mkdir(parents=True)
        (partial / "replay").mkdir()
        for path in folder.rglob("*"):
            if path.is_file():
                (own / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                link(path, own / path.relative_to(folder))
        (partial / "checkpoints" / "latest").write_text(own.name)
        for stream, start in _sealed(made["store"]):
            chunk = chunk_path(run_dir / "replay", stream, start)
            if chunk.exists():  # the oldest may have been evicted since, see `reverie.data.record`
                link(chunk, partial / "replay" / chunk.name)
        with (run_dir / FILE).open("rb") as log:
            (partial / FILE).write_bytes(log.read(int(made["offset"])))
        save_chain(chain, partial)
        if to.exists():
            to.rmdir()
        partial.rename(to)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} has gone while it was copied: {run_dir} went on; try again") from error
    except OSError as error:
        raise UserError(f"cannot copy {run_dir} to {to}: {error.strerror}; name another place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sealed(store: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Streams and starts of the chunk files that the rows of a store are in, those of all its shards if it has some."""
    if "shards" in store:
        parts = [load_tree(path, (SEALED,)) for path in sorted(store["shards"].iterdir())]
        return [(part["first"] + stream, start) for part in parts for stream, start in _sealed(part["store"])]
    return [(s, start) for s, start, _ in np.asarray(store["record"]["sealed"], np.int64).tolist()]


def link(path: Path, to: Path) -> None:
    """Have a file that never changes at another place too."""
    try:
        os.link(path, to)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, to)
