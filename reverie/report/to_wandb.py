"""Weights & Biases: a run's metrics, pictures, histograms and settings there, or in a folder to be uploaded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal
from uuid import uuid4

import numpy as np

from reverie.errors import UserError, notice
from reverie.report.record import Record
from reverie.report.tensorboard import FPS
from reverie.report.video import gif
from reverie.report.writer import Opening, Writer, remembered


class WandB(Writer):
    """A run of Weights & Biases, over frames; resumed under the same id, which is kept in ``<run_dir>/wandb.id``.

    project, entity, group, tags: where it is filed. name: of the run there [that of the run directory].
    mode: ``online``, ``offline`` (kept in ``<run_dir>/wandb``, for ``wandb sync``), ``disabled``; None: as the variable
    WANDB_MODE says, else online.

    Points between the checkpoint that a run goes on from and where it was interrupted are there twice, at equal frames.
    """

    def __init__(
        self,
        project: str = "reverie",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise UserError('the writer wandb needs: pip install "reverie-rl[wandb]"') from error
        self._wandb: Any = wandb
        self._filed = {"project": project, "entity": entity, "group": group, "tags": list(tags), "mode": mode}
        self._name = name
        self._run: Any = None

    def begin(self, opening: Opening) -> None:
        """Begin the run there, or go on with it. Raises UserError if nobody is logged in."""
        settings = self._wandb.Settings(silent=True, console="off")
        try:
            self._run = self._wandb.init(
                **self._filed,
                name=self._name or opening.run_dir.resolve().name,
                id=remembered(opening.run_dir, "wandb.id", lambda: uuid4().hex[:12]),
                resume="allow",
                dir=str(opening.run_dir),
                config=dict(opening.config),
                settings=settings,
            )
        except self._wandb.errors.UsageError as error:
            raise UserError(
                f"wandb: {error}; log in with `wandb login`, or keep it here with --log.options.wandb.mode offline"
            ) from error
        self._run.define_metric("frames")
        self._run.define_metric("*", step_metric="frames")
        notice(f"wandb: {f'offline, in {opening.run_dir}/wandb' if self._run.offline else self._run.url}")

    def write(self, record: Record) -> None:
        """Send one record."""
        self._run.log(dict(record))

    def pictures(self, name: str, pictures: np.ndarray, at: Record) -> None:
        """Send a picture, or a film as a GIF."""
        if len(pictures) == 1:
            media = self._wandb.Image(pictures[0].squeeze(-1) if pictures.shape[-1] == 1 else pictures[0])
        else:
            media = self._wandb.Video(io.BytesIO(gif(pictures, FPS)), format="gif")
        self._run.log({name: media, "frames": at["frames"]})

    def histogram(self, name: str, values: np.ndarray, at: Record) -> None:
        """Send a histogram."""
        self._run.log({name: self._wandb.Histogram(values), "frames": at["frames"]})

    def close(self) -> None:
        """Send what is left."""
        if self._run is not None:
            self._run.finish()
