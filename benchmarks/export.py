"""Sizes of exported files, and what a step takes in onnxruntime, in torch without the library, and in the library.

    python -m benchmarks.export --out results/performance/export.json

Networks of each agent's preset `cpu`, untrained, for one stream on one thread. The three are run in turns, so that what
else the machine does falls on all of them. ``library`` is the graph as the library computes it, adapters included. What
--out has of agents that are not asked for stays.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.timing import keep, surroundings
from reverie.agents import AGENTS
from reverie.export.graphs import fresh
from reverie.export.trace import OPSET, Session, examples, trace
from reverie.presets import make_config

ENVS = {
    "planet": "Pendulum-v1",
    "dreamerv1": "Pendulum-v1",
    "apex-dpg": "Pendulum-v1",
    "tdmpc": "Pendulum-v1",
    "tdmpc2": "Pendulum-v1",
    "drqn": "toy/tmaze",
}
"""where it is not Catch"""


def graphs_of(agent: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Sizes and times of all graphs of an agent."""
    env = ENVS.get(agent, "toy/catch")
    parts = fresh(make_config(agent, "cpu", env))
    networks = parts.policy if parts.model is None else torch.nn.ModuleList([parts.policy, parts.model])
    found: dict[str, Any] = {"env": env, "parameters": sum(p.numel() for p in networks.parameters())}
    for name, graph in parts.graphs().items():
        began = time.perf_counter()
        traced = trace(name, graph)
        traced.save_onnx(folder / "graph.onnx")
        took = time.perf_counter() - began
        traced.save_torch(folder / "graph.pt2")
        session, module = Session(folder / "graph.onnx"), torch.export.load(folder / "graph.pt2").module()
        given = examples(graph, 1)
        arrays = {key: value.numpy() for key, value in given.items()}
        calls: dict[str, Callable[[], object]] = {
            "library": lambda graph=graph, given=given: graph(given),
            "torch": lambda module=module, given=given: module(given),
            "onnxruntime": lambda session=session, arrays=arrays: session(arrays),
        }
        found[name] = {
            "onnx_bytes": (folder / "graph.onnx").stat().st_size,
            "pt2_bytes": (folder / "graph.pt2").stat().st_size,
            "export_seconds": took,
            "milliseconds": in_turns(calls, repeats),
        }
    return found


def in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each call, after three that do not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for repeat in range(repeats + 3):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                if repeat >= 3:
                    times[name].append(1e3 * (time.perf_counter() - began))
    return {name: float(np.median(each)) for name, each in times.items()}


def table(document: dict[str, Any]) -> list[str]:
    """Lines of the table in docs/export.md."""
    lines = [
        "| agent | graph | ONNX, kB | `.pt2`, kB | library, ms | torch, ms | onnxruntime, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for agent, found in document["agents"].items():
        for name, each in found.items():
            if not isinstance(each, dict):
                continue
            ms = each["milliseconds"]
            sizes = f"{each['onnx_bytes'] / 1e3:.0f} | {each['pt2_bytes'] / 1e3:.0f}"
            lines.append(
                f"| `{agent}` | {name} | {sizes} | {ms['library']:.2f} | {ms['torch']:.2f} | {ms['onnxruntime']:.2f} |"
            )
    return lines


def main() -> None:
    """Measure, print the table and the document, and keep the document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", default=",".join(AGENTS), help="with commas")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--note", default="", help="what else is to be said of the measurement")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        **surroundings(),
        "onnxruntime": onnxruntime.__version__,
        "opset": OPSET,
        "repeats": args.repeats,
        "note": args.note,
        "agents": json.loads(args.out.read_text())["agents"] if args.out and args.out.exists() else {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for agent in args.agents.split(","):
            document["agents"][agent] = graphs_of(agent, Path(folder), args.repeats)
            print("\n".join(table({"agents": {agent: document["agents"][agent]}})[2:]), flush=True)
            if args.out:  # what was measured stays if the rest takes too long
                keep(document, args.out)
    document["agents"] = {agent: document["agents"][agent] for agent in AGENTS if agent in document["agents"]}
    if args.out:
        keep(document, args.out)
    print("\n".join(table(document)))


if __name__ == "__main__":
    main()
