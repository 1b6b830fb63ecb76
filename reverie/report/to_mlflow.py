"""MLflow: a run's metrics, pictures and settings on a tracking server, or in a database beside the run."""

from __future__ import annotations

import os
import re
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from reverie.errors import UserError, notice
from reverie.report.record import Record
from reverie.report.tensorboard import FPS
from reverie.report.video import gif, png
from reverie.report.writer import Opening, Writer, remembered

AT_ONCE = 100
"""settings that a server takes at once"""
PATIENCE_S = 10
"""seconds in which a server must answer before a run begins"""
LONGEST = 500
"""characters of a setting that every server takes"""


class MLflow(Writer):
    """A run of MLflow, its steps in frames; resumed under the same id, which is kept in ``<run_dir>/mlflow.id``.

    experiment: that it belongs to. tracking_uri: of the server or a database; None: as the variable
    MLFLOW_TRACKING_URI says, else ``sqlite:///mlflow.db`` beside the run's directory, artifacts in ``mlartifacts``.
    name: of the run there [that of the run directory]. Pictures are artifacts; histograms, of which MLflow has none,
    are five quantiles each.

    Points between the checkpoint that a run goes on from and where it was interrupted are there twice, at equal frames.
    """

    def __init__(self, experiment: str = "reverie", tracking_uri: str | None = None, name: str | None = None) -> None:
        try:
            import mlflow
            from mlflow.entities import Metric, Param
        except ModuleNotFoundError as error:
            raise UserError('the writer mlflow needs: pip install "reverie-rl[mlflow]"') from error
        self._mlflow: Any = mlflow
        self._metric, self._param = Metric, Param
        self._experiment, self._uri, self._name = experiment, tracking_uri, name
        self._client: Any = None
        self._id = ""

    def begin(self, opening: Opening) -> None:
        """Begin the run there, or go on with it."""
        beside, artifacts = opening.run_dir.resolve().parent, None
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            uri, artifacts = f"sqlite:///{beside / 'mlflow.db'}", (beside / "mlartifacts").as_uri()
        _answers(uri)
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._id = remembered(opening.run_dir, "mlflow.id", lambda: self._create(opening, artifacts))
        self._client.update_run(self._id, status="RUNNING")
        notice(f"mlflow: run {self._id} in {uri}")

    def _create(self, opening: Opening, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self._experiment, artifacts)
        run = self._client.create_run(experiment, run_name=self._name or opening.run_dir.resolve().name)
        settings = [self._param(_key(key), str(value)[:LONGEST]) for key, value in opening.config.items()]
        for start in range(0, len(settings), AT_ONCE):
            self._client.log_batch(run.info.run_id, params=settings[start : start + AT_ONCE])
        return str(run.info.run_id)

    def write(self, record: Record) -> None:
        """Send one record."""
        self._send({name: value for name, value in record.items() if name != "frames"}, record)

    def pictures(self, name: str, pictures: np.ndarray, at: Record) -> None:
        """Keep a picture, or a film as a GIF, as an artifact that is named by its frames."""
        film = len(pictures) > 1
        encoded = gif(pictures, FPS) if film else png(pictures[0])
        path = Path(f"{name}-{int(at['frames']):012}{'.gif' if film else '.png'}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / path.name
            file.write_bytes(encoded)
            self._client.log_artifact(self._id, str(file), str(path.parent))

    def histogram(self, name: str, values: np.ndarray, at: Record) -> None:
        """Send the least value, quartiles and the largest."""
        quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        names = ("min", "q25", "median", "q75", "max")
        self._send({f"{name}/{which}": float(q) for which, q in zip(names, quantiles, strict=True)}, at)

    def close(self) -> None:
        """Say that the run has ended."""
        if self._client is not None and self._id:
            self._client.set_terminated(self._id)

    def _send(self, metrics: Mapping[str, float], at: Record) -> None:
        milliseconds, frames = int(at["time/unix_s"] * 1000), int(at["frames"])
        entries = [self._metric(_key(name), float(value), milliseconds, frames) for name, value in metrics.items()]
        self._client.log_batch(self._id, metrics=entries)


def _answers(uri: str) -> None:
    """Raise UserError if nobody answers at a server's address; MLflow itself would ask again for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    address = urlsplit(uri)
    plain = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()  # without a name and a password
    try:
        urllib.request.urlopen(plain, timeout=PATIENCE_S).close()
    except (urllib.error.HTTPError, HTTPException):  # somebody answers; whether they let us in is MLflow's to find out
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # of certificates it has settings of its own
            return
        raise UserError(
            f"mlflow: no server answers at {plain} ({reason}): start one, or say where it is with "
            "log.options.mlflow.tracking_uri or MLFLOW_TRACKING_URI"
        ) from error


def _key(name: str) -> str:
    """A name with what MLflow allows in one."""
    return re.sub(r"[^\w. /-]", "_", name)
