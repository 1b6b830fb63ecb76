"""Checkpoints: the trees of a run (`reverie.run.tree`), the newest of which are kept.

::

    checkpoints/120000/     the tree after so many env_steps
    checkpoints/latest      the name of the newest complete checkpoint
    checkpoints/best/       networks only, of the evaluation with the highest score

A checkpoint appears by renaming a finished, synced folder, and ``latest`` by renaming a finished file: a crash at any
moment leaves the previous checkpoint in force.
"""

from __future__ import annotations

import errno
import math
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from reverie.config import POPULATION
from reverie.data.chunks import sync
from reverie.errors import UserError
from reverie.run.tree import load_tree, save_tree

BEST = "best"


class Checkpoints:
    """The checkpoints of a run directory; keeps the newest `keep`. Raises UserError if that is less than 1.

    A checkpoint that is saved again at the same env_steps steps aside as ``.<env_steps>.replaced`` until the new one is
    in its place, and counts as complete there.
    """

    def __init__(self, run_dir: Path, keep: int = 2) -> None:
        if keep < 1:
            raise UserError(f"a run keeps at least 1 checkpoint, got {keep}; set run.keep_checkpoints to 1 or more")
        self.folder = run_dir / "checkpoints"
        self.keep = keep

    def save(self, env_steps: int, tree: dict[str, Any]) -> None:
        """Make a checkpoint durable. Raises UserError if the disk is full; older checkpoints stay as they are."""
        final = self.folder / str(env_steps)
        partial = self.folder / f".{env_steps}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".*.partial"):  # by a process that was killed while it saved
                if leftover.is_dir():
                    shutil.rmtree(leftover)
            save_tree(partial, tree)
            replaced = self._replaced(env_steps)
            if final.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                final.rename(replaced)
            partial.rename(final)
            latest = self.folder / ".latest"
            latest.write_text(final.name)
            sync(latest)
            latest.rename(self.folder / "latest")
            sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise unsaved(final, error) from error
        except UserError:  # somebody who writes a part of it says what went wrong
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._forget(env_steps)

    def _forget(self, newest: int) -> None:
        """Remove checkpoints that are too old, and those of a future that this run was taken back from."""
        names = self.names()
        recent = [name for name in names if name <= newest][-self.keep :]
        for name in names:
            final = self.folder / str(name)
            if name not in recent or final.exists():
                shutil.rmtree(self._replaced(name), ignore_errors=True)
            if name not in recent:
                shutil.rmtree(final, ignore_errors=True)

    def _replaced(self, env_steps: int | str) -> Path:
        return self.folder / f".{env_steps}.replaced"

    def names(self) -> list[int]:
        """env_steps of the complete checkpoints, oldest first."""
        if not self.folder.exists():
            return []
        stems = {path.name.removeprefix(".").removesuffix(".replaced") for path in self.folder.iterdir()}
        return sorted(int(name) for name in stems if name.isdigit())

    def latest(self) -> Path | None:
        """The newest complete checkpoint, or None. ``latest`` may be gone or wrong: folder names decide then."""
        names = self.names()
        if not names:
            return None
        try:
            pointer = (self.folder / "latest").read_text().strip()
        except (OSError, UnicodeDecodeError):
            pointer = ""
        name = int(pointer) if pointer.isdigit() and int(pointer) in names else names[-1]
        folder = self.folder / str(name)
        return folder if folder.exists() else self._replaced(name)

    def save_best(self, score: float, tree: dict[str, Any]) -> bool:
        """Keep a tree as ``best`` if its score is higher than that of the one there. Returns whether it is kept.

        Of equal scores the first stays, so that a run that goes on from before it keeps the same. One that was saved
        after more env_steps is of a future that the run was taken back from, and is replaced whatever its score.
        Raises UserError if the disk is full; the one that was best stays.
        """
        there, env_steps = self._best()
        if not math.isfinite(score) or (there >= score and env_steps <= tree["env_steps"]):
            return False
        partial, final = self.folder / f".{BEST}.partial", self.folder / BEST
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            save_tree(partial, tree | {"score": score})
            replaced = self._replaced(BEST)
            if final.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                final.rename(replaced)
            partial.rename(final)
            sync(self.folder)
            shutil.rmtree(replaced, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(f"could not keep the best networks in {final}: {error}") from error
        return True

    def _best(self) -> tuple[float, int]:
        """Score of ``best``, and env_steps after which it was saved; -inf and 0 if there is none that can be read."""
        try:
            tree = load_tree(self.find(BEST), ())
            return float(tree["score"]), int(tree["env_steps"])
        except (UserError, KeyError, TypeError):
            return float("-inf"), 0

    def fixed(self, which: str | int) -> str:
        """The name of a checkpoint that stays when newer ones come, for as long as it is kept: its env_steps."""
        newest = self.latest() if which == "latest" else None
        return newest.name if newest is not None and newest.name.isdigit() else str(which)

    def find(self, which: str | int) -> Path:
        """The folder of a checkpoint: ``latest``, ``best``, or env_steps. Raises UserError if it is not there."""
        which = str(which)
        there = {str(name): self.folder / str(name) for name in self.names()}
        if (self.folder / BEST).exists() or self._replaced(BEST).exists():
            there[BEST] = self.folder / BEST
        folder = there.get(which) if which != "latest" else self.latest()
        if folder is None:
            if not there:
                raise self._none()
            latest = [] if self.latest() is None else ["latest"]
            raise UserError(f"{self.folder.parent} has no checkpoint {which!r}; it has {', '.join([*latest, *there])}")
        return folder if folder.exists() else self._replaced(folder.name)

    def _none(self) -> UserError:
        """What is wrong with a directory that has no checkpoint."""
        run_dir = self.folder.parent
        if not run_dir.exists():
            return UserError(f"{run_dir} is not there; name the directory of a run")
        if (run_dir / POPULATION).exists():
            return UserError(
                f"{run_dir} is a population, not a run; name one of its members, as {run_dir / 'member-0'}"
            )
        return UserError(f"{run_dir} has no checkpoint yet; start it again with `reverie train`")

    def head(self) -> dict[str, Any] | None:
        """What the newest checkpoint counts (env_steps, learner_steps, generation, ...); None if there is none."""
        folder = self.latest()
        return None if folder is None else load_tree(folder, ())

    def check_kept(self) -> None:
        """Raise UserError where there were checkpoints and none is left: a run would begin again over its own rows."""
        if self.latest() is None and (self.folder / "latest").exists():
            raise UserError(
                f"{self.folder.parent} had checkpoints, and none is left to go on from: restore one from a copy, begin "
                f"in another directory, or delete {self.folder.parent} to begin again in this one"
            )

    def load(self, only: tuple[str, ...] = ("",)) -> dict[str, Any]:
        """The newest checkpoint's tree; only: see `load_tree`. Raises UserError if there is none or it is damaged."""
        folder = self.latest()
        if folder is None:
            raise self._none()
        return load_tree(folder, only)


def unsaved(path: Path, error: Exception) -> UserError:
    """What to say of a checkpoint, or a part of one, that could not be written."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    reason = "no space left on the disk" if full else str(error)
    return UserError(
        f"could not write checkpoint {path}: {reason}; free space or permissions there and run the same command again: "
        "it goes on from the checkpoint before"
    )


class Misfit(UserError):
    """A checkpoint that could be read but does not fit the parts of its run. reason: what does not, in a few words."""

    def __init__(self, folder: Path | None, reason: str) -> None:
        super().__init__(
            f"checkpoint {folder} does not fit this run's config.json ({reason}); "
            "restore the config.json that it was made with"
        )
        self.reason = reason


def misfit(folder: Path | None, error: Exception) -> Misfit:
    """`Misfit` of an error that came up when parts were restored."""
    if shapes := re.findall(r"size mismatch for (\S+):", str(error)):
        return Misfit(folder, "networks have other shapes: " + ", ".join(shapes[:3]) + ", ..." * (len(shapes) > 3))
    return Misfit(folder, textwrap.shorten(f"{type(error).__name__}: {error}", 200))
