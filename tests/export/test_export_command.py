"""`reverie export`: what lies in the folder, that it is the run's, and that slips are one line and leave nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
from click.testing import CliRunner, Result

from reverie import overrides
from reverie.agents.objective import Nothing
from reverie.agents.policy import Decision
from reverie.cli import cli
from reverie.errors import UserError
from reverie.export import export as module
from reverie.export.graphs import Graph, PolicyGraph, load_for_export
from reverie.export.port import Port
from reverie.export.runtime import FILES, NAME, find_runtime
from reverie.export.trace import Session, trace
from reverie.presets import make_config
from reverie.run.train import train
from tests.export.test_policies import CLOSE, differences
from tests.export.tiny import SIZES, tiny


@pytest.fixture(scope="module")
def dreamer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dreamer"
    small = {"env.options": {"size": 16, "cells": 4}}
    train(overrides.apply(tiny_runs.config("toy/catch", run__env_steps=60), small), folder)
    return folder


@pytest.fixture(scope="module")
def dqn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dqn"
    config = make_config("dqn", "cpu", "CartPole-v1")
    small = {key: value for key, value in SIZES.items() if key in overrides.flatten(config)}
    more = {"run.env_steps": 60, "run.prefill": 20, "run.eval_episodes": 1, "env.num_envs": 1}
    train(overrides.apply(config, small | more), folder)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder that looks like the npm package."""
    folder = tmp_path / "node_modules" / NAME
    (folder / "dist").mkdir(parents=True)
    for name in FILES:
        (folder / "dist" / name).write_text(name)
    (folder / "package.json").write_text('{"version": "9.9.9", "license": "MIT"}')
    return folder


def reverie(*words: Any) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, words)])


def refused(*words: Any) -> str:
    result = reverie(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_onnx_files_of_a_run(dreamer: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    result = reverie(dreamer, out, "--to", "onnx", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    card = json.loads((out / "model_card.json").read_text())
    graphs = {f"{name}.onnx" for name in ("policy", "observe", "imagine", "tell")}
    assert {path.name for path in out.iterdir()} == graphs | {"model_card.json", "model_card.md"}
    assert graphs == card["files"].keys() == told.keys() - {"out", "env_steps"}
    for name, file in card["files"].items():
        session = Session(out / name)
        assert file["bytes"] == (out / name).stat().st_size == told[name]["bytes"]
        assert 0.0 <= file["largest_difference"] < CLOSE
        assert [each["name"] for each in file["inputs"]] == session.inputs
        assert [each["name"] for each in file["outputs"]] == session.outputs
        assert all(each["shape"][0] == "batch" for each in file["inputs"] + file["outputs"])
    assert card["written_as"] == "ONNX, opset 20"
    assert card["versions"]["written"].keys() > {"torch", "onnx"}
    assert card["files"]["policy.onnx"]["steady_noise"] == 0.5
    page = (out / "model_card.md").read_text()
    assert "| input | `obs.image` | uint8 | [batch, 16, 16, 1] |" in page
    parts = load_for_export(dreamer)
    worst, _ = differences(parts, {"onnx": Session(out / "policy.onnx")}, 20)
    assert worst["onnx"] < CLOSE


WITHOUT = """
import sys
sys.modules["reverie"] = None
import torch
policy = torch.export.load(sys.argv[1]).module()
given = {"obs.vector": torch.zeros(4, 4), "reward": torch.zeros(4), "is_first": torch.ones(4, dtype=torch.bool)}
given |= {"noise": torch.full((4, 2), 0.5), "state.prev_action": torch.zeros(4, dtype=torch.int64)}
answer = policy(given)
print(answer["action"].tolist(), [round(float(q), 5) for q in answer["q"][0]])
"""


def test_torch_files_need_no_reverie(dqn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is in nobody's way
    assert reverie(dqn, out, "--to", "torch").exit_code == 0
    assert {path.name for path in out.iterdir()} == {"policy.pt2", "model_card.json", "model_card.md"}
    code = [sys.executable, "-c", WITHOUT, str(out / "policy.pt2")]
    done = subprocess.run(code, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    network = load_for_export(dqn).policy.network  # type: ignore[union-attr]
    q = network.head(network.features({"vector": torch.zeros(1, 4)}, {}), torch.zeros(1, 0))[0]
    assert done.stdout.split("]")[1].strip(" [\n") == ", ".join(str(round(float(x), 5)) for x in q)


def test_a_page_has_all_that_it_needs(dreamer: Path, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = reverie(dreamer, out, "--to", "web", "--runtime", package, "--starts", "3")
    assert result.exit_code == 0, result.output
    names = {"index.html", "app.js", "style.css", "dream.json", "starts.bin", "imagine.onnx", "tell.onnx", "runtime"}
    assert {path.name for path in out.iterdir()} == names | {"model_card.json", "model_card.md"}
    assert {path.name for path in (out / "runtime").iterdir()} == {*FILES, "NOTICE.txt"}
    assert "onnxruntime-web 9.9.9" in (out / "runtime" / "NOTICE.txt").read_text()
    assert json.loads((out / "model_card.json").read_text())["runtime"]["licence"] == "MIT"
    dream = json.loads((out / "dream.json").read_text())
    width = sum(int(np.prod(each["shape"])) for each in dream["state"])
    assert (out / "starts.bin").stat().st_size == 4 * dream["starts"] * width == 4 * 3 * width
    assert dream["action"] == {"dtype": "int64", "shape": [], "kind": "discrete", "counts": [3], "start": [0]}
    assert dream["observations"] == [{"key": "image", "kind": "image", "shape": [16, 16, 1]}]
    assert dream["told"] == ["reward", "continuation"] or dream["told"] == ["tanh(reward)", "continuation"]
    for source in (out / "index.html", out / "app.js", out / "style.css"):
        assert "http" not in source.read_text().replace("https://github.com", "")  # nothing comes from elsewhere


def test_where_the_runtime_is_looked_for(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    for given in (None, tmp_path, package, package / "dist", package.parent):
        found = find_runtime(given)
        assert (found.dist, found.version, found.licence) == (package / "dist", "9.9.9", "MIT")
    (package / "dist" / FILES[0]).unlink()
    with pytest.raises(UserError, match="a page needs onnxruntime-web, which is in no node_modules here"):
        find_runtime()
    with pytest.raises(UserError, match="has no onnxruntime-web"):
        find_runtime(tmp_path)


def test_slips_are_one_line(dqn: Path, dreamer: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert "is not a run directory" in refused(tmp_path, tmp_path / "out", "--to", "onnx")
    assert "is a file; name a folder" in refused(dqn, tmp_path / "file", "--to", "onnx")
    assert "is not empty; name a folder" in refused(dqn, tmp_path / "full", "--to", "onnx")
    (tmp_path / "here").mkdir()
    with chdir(tmp_path / "here"):
        assert "is the current directory" in refused(dqn, ".", "--to", "onnx")
    assert "has no checkpoint '7'" in refused(dqn, tmp_path / "out", "--to", "torch", "--checkpoint", "7")
    assert "has no onnxruntime-web" in refused(dreamer, tmp_path / "out", "--to", "web", "--runtime", dqn)
    words = refused(dqn, tmp_path / "out", "--to", "web", "--runtime", dqn)
    assert "dqn has no world model to dream with; export its policy --to onnx" in words
    assert "Missing option '--to'" in refused(dqn, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "full", "here"}


def test_a_run_without_a_checkpoint(dqn: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text((dqn / "config.json").read_text())
    assert "has no checkpoint yet" in refused(tmp_path / "run", tmp_path / "out", "--to", "onnx")


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package(name: str, dqn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    words = refused(dqn, tmp_path / "out", "--to", "onnx")
    assert f"an export to ONNX needs {name}: pip install 'reverie-rl[export]'" in words
    assert not list(tmp_path.iterdir())


def test_a_model_that_says_nothing_of_observations(
    dreamer: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = load_for_export(dreamer)
    assert parts.model is not None
    parts.model.objective = Nothing()
    monkeypatch.setattr(module, "load_for_export", lambda *_: parts)
    words = refused(dreamer, tmp_path / "out", "--to", "web", "--runtime", package)
    assert "says nothing about observations: there is no dream to show" in words


class Fixed(Graph):
    """A function of two streams."""

    def __init__(self) -> None:
        super().__init__([Port("x", torch.float32, (3,))])

    def forward(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": given["x"] * torch.ones(len(given["x"]), 3)}


def test_what_is_no_function_of_any_number_of_streams(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="thing cannot be exported") as error:
        trace("thing", Fixed())
    assert "\n" not in str(error.value)


def test_nothing_is_left_of_an_export_that_fails(dqn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, *_: Any) -> Decision:
        raise RuntimeError("no\nsuch thing")

    monkeypatch.setattr("reverie.export.export.as_markdown", step)
    with pytest.raises(RuntimeError):
        module.export(dqn, tmp_path / "out", to="torch")
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_said(dqn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = tiny("dqn", "CartPole-v1")
    graph = PolicyGraph(parts.policy, parts.spec, parts.adapter, 0)
    traced = trace("policy", graph)
    traced.save_torch(tmp_path / "policy.pt2")
    with torch.no_grad():
        next(parts.policy.parameters()).add_(1.0)
    checked = module._checked(replace(traced, graph=graph), tmp_path / "policy.pt2")
    assert checked["largest_difference"] > CLOSE
    with torch.no_grad():
        next(parts.policy.parameters()).fill_(float("nan"))
    assert math.isnan(module._checked(replace(traced, graph=graph), tmp_path / "policy.pt2")["largest_difference"])
    assert "policy.pt2 differs from the library by" in capsys.readouterr().err
