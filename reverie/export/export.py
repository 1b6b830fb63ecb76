"""`export`: a run's policy and world model as files for ONNX runtimes, for torch without this library, or as a page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reverie.errors import UserError, notice
from reverie.export.graphs import Graph, Parts, load_for_export
from reverie.export.page import start_states, write_page
from reverie.export.runtime import find_runtime
from reverie.export.trace import OPSET, Session, Traced, examples, need, trace
from reverie.play.card import as_markdown, model_card
from reverie.report.document import check_free
from reverie.report.record import to_json
from reverie.run.checkpoint import Checkpoints
from reverie.run.saved_config import versions
from reverie.run.zoo import resolve

To = Literal["onnx", "torch", "web"]
CLOSE = 1e-4
"""difference up to which a file says the same as the library"""


def export(
    run_dir: str | Path,
    out: str | Path,
    *,
    to: To = "onnx",
    checkpoint: str = "latest",
    runtime: Path | None = None,
    starts: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """What was written into the new folder `out`: for each file its size and how far it is from the library.

    ::

        onnx    policy.onnx, observe.onnx, imagine.onnx, tell.onnx     the last three of agents with a world model
        torch   policy.pt2, ...                                        the same, for torch.export.load
        web     index.html and all that it needs                       a dream to play in, for any static server
        all     model_card.json, model_card.md

    Each file is run beside the library before it is handed over; the largest difference is in its card, and one above
    `CLOSE` is said. checkpoint: ``latest``, ``best`` or env_steps. runtime: folder of the npm package onnxruntime-web,
    see `find_runtime`; starts: how many states of real rows a dream can begin from; seed: of these; ``web`` only.
    Raises UserError if there is no such run or checkpoint, `out` is not empty, a package is missing, or the agent
    cannot be exported; nothing is left behind then.
    """
    run_dir, out = resolve(run_dir), Path(out)
    check_free(out)
    checkpoint = Checkpoints(run_dir).fixed(checkpoint)  # all that follows is of one, if the run goes on meanwhile
    parts = load_for_export(run_dir, checkpoint)
    graphs = _dream_graphs(parts) if to == "web" else parts.graphs()
    package = find_runtime(runtime) if to == "web" else None
    for name in ("onnx", "onnxscript", "onnxruntime") if to != "torch" else ():
        need(name)
    card = model_card(run_dir, checkpoint, parts.spec)
    begun = None if package is None else start_states(run_dir, checkpoint, starts, seed)
    card["written_as"] = "torch.export" if to == "torch" else f"ONNX, opset {OPSET}"
    card["versions"]["written"] = versions() | ({} if to == "torch" else {"onnx": need("onnx").__version__})
    with _in_place(out) as folder:
        traced = {name: trace(name, graph) for name, graph in graphs.items()}
        card["files"] = {
            path.name: _checked(each, path) for name, each in traced.items() for path in [_save(name, each, folder, to)]
        }
        if package is not None and begun is not None:
            card["runtime"] = package.described()
            write_page(folder, parts, traced, package, begun)
        (folder / "model_card.json").write_text(to_json(card, 2) + "\n", encoding="utf-8")
        (folder / "model_card.md").write_text(as_markdown(card), encoding="utf-8", errors="backslashreplace")
    result = {"out": str(out), "env_steps": parts.env_steps}
    for name, file in card["files"].items():
        result[name] = {"bytes": file["bytes"], "largest_difference": file["largest_difference"]}
    return result


def _dream_graphs(parts: Parts) -> dict[str, Graph]:
    """What a page needs to dream. Raises UserError of agents that cannot show a dream."""
    if parts.model is None:
        raise UserError(f"{parts.config.name} has no world model to dream with; export its policy --to onnx")
    if not parts.model.objective.tells:
        raise UserError(f"the model of {parts.config.name} says nothing about observations: there is no dream to show")
    graphs = parts.dreams()
    return {name: graphs[name] for name in ("imagine", "tell")}


def _save(name: str, traced: Traced, folder: Path, to: To) -> Path:
    path = folder / (f"{name}.pt2" if to == "torch" else f"{name}.onnx")
    if to == "torch":
        traced.save_torch(path)
    else:
        traced.save_onnx(path)
    return path


def _checked(traced: Traced, path: Path) -> dict[str, Any]:
    """A file as a document, with its size and how far its outputs are from the library's for 1 and 3 streams."""
    answer = Session(path) if path.suffix == ".onnx" else _loaded(path)
    difference = float(np.max([_difference(traced, answer, batch) for batch in (1, 3)]))
    if not difference <= CLOSE:
        notice(f"{path.name} differs from the library by {difference:.3g} on random inputs; its card says so")
    return {**traced.described(), "bytes": path.stat().st_size, "largest_difference": difference}


def _loaded(path: Path) -> Any:
    """A function of arrays by name out of a ``.pt2`` file."""
    module = torch.export.load(path).module()

    def answer(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = module({name: torch.from_numpy(value) for name, value in given.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return answer


def _difference(traced: Traced, answer: Any, batch: int) -> float:
    """The largest difference of any output from the graph as the library computes it, on random inputs.

    NaN where one of both is; equal infinities do not differ.
    """
    given = examples(traced.graph, batch, seed=batch)
    with torch.inference_mode():
        expected = traced.graph(given)
    found = answer({name: value.numpy() for name, value in given.items()})
    pairs = [(found[name].astype(np.float64), value.double().numpy()) for name, value in expected.items()]
    with np.errstate(invalid="ignore"):
        return float(np.max([np.where(a == b, 0.0, np.abs(a - b)).max(initial=0.0) for a, b in pairs]))


@contextmanager
def _in_place(out: Path) -> Iterator[Path]:
    """A folder that gets its name when it is complete; nothing is left of one that is not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))  # another export has its own
    folder = partial / "out"
    folder.mkdir()
    try:
        yield folder
        check_free(out)
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
