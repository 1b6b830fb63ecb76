"""Weights & Biases and MLflow, as they are without a network: what was logged is there, also after resuming."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import mlflow
import numpy as np
import pytest
import wandb

from reverie.errors import UserError
from reverie.report import to_mlflow
from reverie.report.log import Logger, Opening
from reverie.report.to_mlflow import MLflow
from reverie.report.to_wandb import WandB
from reverie.report.writer import Writer, remembered

SETTINGS = {"agent.gamma": 0.99, "agent.rssm.classes": 4, "log.writers": ["wandb"], "run.env_steps": None}
FILM = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)


def record(writer: Writer, run_dir: Path) -> None:
    """A run of two parts: the second begins at 8 frames."""
    for resumed_at, frames in ((None, (4, 8, 12)), (8, (12, 16))):
        with Logger(run_dir, [writer]) as logger:
            logger.begin(Opening(run_dir, "dqn on toy/catch", SETTINGS, resumed_at))
            for count in frames:
                units = {"env_steps": count // 4, "frames": count, "learner_steps": 0}
                score = float("nan") if count == 4 else count / 2 + (resumed_at or 0)
                logger.log({"eval/score": score}, **units)
            logger.pictures("dreams/image", FILM if resumed_at else FILM[:1], **units)
            logger.histogram("parameters/weight", np.arange(5.0), **units)
            logger.sync()


def test_a_name_that_was_never_written_is_made_again(tmp_path: Path) -> None:
    assert remembered(tmp_path, "run.id", lambda: "one") == remembered(tmp_path, "run.id", lambda: "two") == "one"
    (tmp_path / "run.id").write_text("\n")  # the disk was full
    assert remembered(tmp_path, "run.id", lambda: "two") == remembered(tmp_path, "run.id", lambda: "three") == "two"


def test_mlflow_in_a_database_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_dir = tmp_path / "runs" / "first"
    run_dir.mkdir(parents=True)
    record(MLflow(), run_dir)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("reverie")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == (run_dir / "mlflow.id").read_text().strip()
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params == {key: str(value) for key, value in SETTINGS.items()}
    scores = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "eval/score")]
    assert str(sorted(scores, key=str)) == str([(12, 14.0), (12, 6.0), (16, 16.0), (4, float("nan")), (8, 4.0)])
    assert run.data.metrics["parameters/weight/q25"] == 1
    films = [path for path in (tmp_path / "runs" / "mlartifacts").rglob("*") if path.is_file()]
    assert sorted(path.name for path in films) == ["image-000000000012.png", "image-000000000016.gif"]
    assert imageio.imread(max(films, key=lambda path: path.name)).shape[0] == 2
    assert not (Path.cwd() / "mlruns").exists()


def test_wandb_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # the option counts for more
    record(WandB(project="maze", mode="offline", tags=["short"]), tmp_path)
    wandb.teardown()  # as at the end of a process: waits until the files are whole
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"reverie: wandb: offline, in {tmp_path}/wandb"] * 2
    assert said.out == ""
    folders = sorted(path for path in (tmp_path / "wandb").glob("offline-run-*") if not path.is_symlink())
    identity = (tmp_path / "wandb.id").read_text().strip()
    assert len(folders) == 2
    parts = [read(path / f"run-{identity}.wandb") for path in folders]
    scores = sorted(
        (line["frames"], str(line["eval/score"])) for part in parts for line in part["history"] if "eval/score" in line
    )
    assert scores == [(4, "nan"), (8, "4"), (12, "14"), (12, "6"), (16, "16")]
    for part in parts:
        assert part["config"].items() >= SETTINGS.items()
        assert part["axes"] == {"*": "frames"}
        key = "parameters/weight/values"
        assert [sum(line[key]) for line in part["history"] if key in line] == [5]
    media = [path.suffix for path in (tmp_path / "wandb").rglob("*") if path.is_file() and "media" in path.parts]
    assert sorted(set(media)) == [".gif", ".png"]


def read(path: Path) -> dict[str, Any]:
    """History, settings and axes in the file that `wandb sync` uploads."""
    from wandb.proto import wandb_internal_pb2

    history, config, axes = [], {}, {}
    for data in chunks(path.read_bytes()):
        entry = wandb_internal_pb2.Record.FromString(data)
        if entry.WhichOneof("record_type") == "history":
            history.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in entry.history.item})
        elif entry.WhichOneof("record_type") == "run":
            config |= {item.key: json.loads(item.value_json) for item in entry.run.config.update}
        elif entry.WhichOneof("record_type") == "metric" and entry.metric.step_metric:
            axes[entry.metric.glob_name or entry.metric.name] = entry.metric.step_metric
    return {"history": history, "config": config, "axes": axes}


def chunks(log: bytes) -> Iterator[bytes]:
    """Records of a log as LevelDB has them: blocks of 32 KiB, in them checksum, length and kind before each piece."""
    at, record = 7, b""
    while at < len(log):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", log, at + 4)
        record += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


@pytest.mark.parametrize(("module", "make"), [("wandb", WandB), ("mlflow", MLflow)])
def test_without_its_package_a_writer_says_how_to_install_it(
    module: str, make: type[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'the writer {module} needs: pip install "reverie-rl\[{module}\]"'):
        make()


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """MLflow would ask again for minutes. A server that answers anything at all is left to it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"mlflow: no server answers at {uri} .*: start one, or say where"):
            MLflow(tracking_uri=uri).begin(Opening(tmp_path, "dqn", {}))
        with pytest.raises(UserError, match=f"mlflow: no server answers at {uri} "):
            to_mlflow._answers(uri.replace("//", "//name:secret@"))
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # which knows no method: 501
        for told in ("", "name:secret@"):
            threading.Thread(target=server.handle_request, daemon=True).start()
            to_mlflow._answers(f"http://{told}127.0.0.1:{server.server_port}")
