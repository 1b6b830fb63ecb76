"""A page to play in a dream: static files, which any server can hand out and any browser runs.

::

    index.html, app.js, style.css    the page
    imagine.onnx, tell.onnx          the world model
    dream.json                       names, shapes, actions and keys
    starts.bin                       float32, states of real rows that a dream begins from
    runtime/                         ONNX Runtime Web
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from reverie.data.rows import OBS, State
from reverie.envs.env import shut
from reverie.errors import UserError
from reverie.export.graphs import Parts
from reverie.export.port import DTYPES
from reverie.export.runtime import Runtime
from reverie.export.trace import Traced
from reverie.nets.encoders import is_image
from reverie.play.model import held_out, load_model
from reverie.report.record import to_json

SOURCES = Path(__file__).with_name("web")
FPS = 10
"""dreamed rows a second, until the reader of the page says otherwise"""
LONGEST = 10
"""rows of an episode that a start is taken from"""


def write_page(folder: Path, parts: Parts, traced: Mapping[str, Traced], runtime: Runtime, states: State) -> None:
    """Write all files of the page but the graphs into `folder`. states: to begin from, name -> float32 [S, ...].

    Raises UserError for actions that no page has.
    """
    for source in sorted(SOURCES.iterdir()):
        shutil.copyfile(source, folder / source.name)
    runtime.copy(folder / "runtime")
    count = len(next(iter(states.values())))
    flat = np.concatenate([value.numpy().reshape(count, -1) for value in states.values()], 1)
    (folder / "starts.bin").write_bytes(flat.astype("<f4").tobytes())
    dream = {
        "name": f"{parts.config.name} on {parts.config.env.id}",
        "env_steps": parts.env_steps,
        "fps": FPS,
        "starts": count,
        "state": [{"name": name, "shape": list(value.shape[1:])} for name, value in states.items()],
        "noise": next((port.shape[0] for port in traced["imagine"].graph.inputs if port.name == "noise"), 0),
        "action": _action(parts.adapter.action.native),
        "observations": [
            {"key": key, "kind": _kind(space), "shape": list(space.shape or ())}
            for key, space in parts.spec.observation.items()
        ],
        "told": [port.name for port in traced["tell"].outputs if not port.name.startswith(OBS)],
        "runtime": runtime.described(),
    }
    (folder / "dream.json").write_text(to_json(dream, 2) + "\n")


def start_states(run_dir: Path, checkpoint: str, count: int, seed: int) -> State:
    """Posterior states of rows that the agent plays now, name -> float32 [count, ...]: of an episode's first row, of a
    second one's second, and so on.

    Raises UserError if all episodes are of one row.
    """
    loaded = load_model(run_dir, "cpu", seed, checkpoint)
    try:
        sequences = held_out(loaded, count, 1, LONGEST - 1, seed)
    finally:
        shut(loaded.env)
    model, states = loaded.model, []
    for number, sequence in enumerate(sequences):
        length = 1 + number % (len(sequence["is_first"]) - 1)
        rows = {name: torch.from_numpy(value[:length, None]) for name, value in sequence.items()}
        rows["is_first"][0] = True
        with torch.inference_mode():
            action = model.actions.encode(rows["prev_action"])
            u = loaded.noise.uniform(length, 1, loaded.policy.unroll_noise)
            states.append(model.observe(model.initial_state(1), action, rows, u).last)
    return {name: torch.cat([state[name] for state in states]).float() for name in states[0]}


def _kind(space: spaces.Space) -> str:
    if is_image(space):
        return "image"
    return "vector" if isinstance(space, spaces.Box) else "index"


def _action(native: spaces.Space) -> dict[str, Any]:
    """Actions as the page has to know them: what it must hand to the graph."""
    dtype = str(native.dtype)
    if dtype not in DTYPES or dtype in ("bool", "float16"):
        raise UserError(f"the action is {dtype}, which a page does not have")
    common: dict[str, Any] = {"dtype": dtype, "shape": list(native.shape or ())}
    if isinstance(native, spaces.Box):
        bounds = {"low": native.low.reshape(-1).tolist(), "high": native.high.reshape(-1).tolist()}
        return common | bounds | {"kind": "box"}
    if isinstance(native, spaces.Discrete):
        return common | {"kind": "discrete", "counts": [int(native.n)], "start": [int(native.start)]}
    if isinstance(native, spaces.MultiDiscrete):
        start = np.broadcast_to(np.asarray(native.start), native.nvec.shape).reshape(-1)
        return common | {"kind": "discrete", "counts": native.nvec.reshape(-1).tolist(), "start": start.tolist()}
    size = int(np.prod(native.shape or ()))
    return common | {"kind": "discrete", "counts": [2] * size, "start": [0] * size}
