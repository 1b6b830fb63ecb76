"""How many rows of burn-in a stored state wants: what is left of it in action values, by its age.

    python -m benchmarks.burn_in --run runs/evidence/r2d2-pong/r2d2-0 --out results/strategies/pong-burn-in

For windows of a finished run's replay, action values are read with the final parameters three ways: after at least 100
rows of the same stream (the reference), from the state that the actor stored at the window's first row, and from an
empty state. The error after k rows is

    e_k = mean_{windows, actions} | q(k rows from the start state) - q(reference) |

beside the mean of max_a |q|, and the share of windows whose greedy action is another one. Windows are grouped by how
long ago their rows were acted, in quarters of the run; those in which an episode begins are left out, because there the
state is reset. A replay that keeps all rows trains on all four groups alike. Writes <out>.json, .png and .md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.agents.noise import Tape
from reverie.agents.q_policy import QPolicy
from reverie.data.chunks import SUFFIX, read_chunk, read_header
from reverie.data.rows import State
from reverie.data.sequences import Chunk
from reverie.play.load import load
from reverie.report.curves import COLOURS, GRAY, blank_axes
from reverie.report.document import write_document
from reverie.run.saved_config import load_config

SETTLED, ROWS, GROUPS = 100, 41, 4
"""rows after which a state counts as exact; of a window; of ages"""

Measure = dict[str, np.ndarray]
"""``error`` and ``other`` (is the greedy action another one) [windows, ROWS], ``size`` of action values [windows]"""


def tensors(rows: Mapping[str, np.ndarray], where: np.ndarray) -> dict[str, Tensor]:
    """Rows at the indices [T, B]."""
    return {name: torch.from_numpy(value[where]) for name, value in rows.items()}


@torch.inference_mode()
def values(policy: QPolicy, state: State, rows: Mapping[str, Tensor]) -> Tensor:
    """Action values [T, B, A] of rows [T, B, ...]."""
    tape = Tape(torch.zeros(*rows["is_first"].shape, policy.noise))
    return policy.network.head.q(policy.unroll(state, rows, tape)[0])


def measure(policy: QPolicy, chunk: Chunk, period: int) -> dict[str, Measure]:
    """What is left of stored and of empty states in all windows of a chunk."""
    states = {name: torch.from_numpy(value) for name, value in (chunk.states or {}).items()}
    slots = np.arange(-(-SETTLED // period), (len(chunk) - ROWS) // period + 1)
    where = slots * period + np.arange(ROWS)[:, None]
    whole = ~chunk.rows["is_first"][where].any(0)
    slots, where = slots[whole], where[:, whole]
    start = {name: value[:1] for name, value in states.items()}
    reference = values(policy, start, tensors(chunk.rows, np.arange(len(chunk))[:, None]))[:, 0][where]
    stored = {name: value[slots] for name, value in states.items()}
    core = policy.initial_state(len(slots))
    empty = {name: core[name] if name.startswith("core.") else value for name, value in stored.items()}
    found = {}
    for name, begin in (("stored", stored), ("zero", empty)):
        q = values(policy, begin, tensors(chunk.rows, where))
        found[name] = {
            "error": (q - reference).abs().mean(-1).T.numpy(),
            "other": (q.argmax(-1) != reference.argmax(-1)).T.numpy(),
            "size": reference.abs().amax(-1).mean(0).numpy(),
        }
    return found


def choose(folder: Path, each: int) -> list[list[Path]]:
    """Up to `each` chunk files for every quarter of the run by the index of their first row, spread over streams."""
    headers = [(read_header(path), path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    end = max(header["start"] + header["length"] for header, _ in headers)
    groups: list[list[Path]] = [[] for _ in range(GROUPS)]
    for header, path in headers:
        if header["length"] >= SETTLED + ROWS:
            groups[GROUPS * header["start"] // end].append(path)
    generator = np.random.default_rng(0)
    return [[group[k] for k in generator.permutation(len(group))[:each]] for group in groups]


def summed(found: Sequence[Measure]) -> dict[str, Any]:
    """Means over windows."""
    error, other, size = (np.concatenate([each[name] for each in found]) for name in ("error", "other", "size"))
    return {
        "windows": len(size),
        "error": error.mean(0).tolist(),
        "other_action": other.mean(0).tolist(),
        "size": float(size.mean()),
    }


def relative(group: Mapping[str, Any]) -> np.ndarray:
    """Errors as parts of the size of action values, [ROWS]."""
    return np.asarray(group["error"]) / group["size"]


def markdown(document: Mapping[str, Any], after: Sequence[int] = (0, 2, 4, 8, 12, 16, 24, 32, 40)) -> list[str]:
    """A line per kind of start, a column per number of rows; the error as a part of the size of action values."""
    lines = [f"| error after so many rows | {' | '.join(map(str, after))} |", f"|{'---|' * (len(after) + 1)}"]
    for name, group in document["starts"].items():
        lines.append(f"| {name} | {' | '.join(f'{relative(group)[k]:.3f}' for k in after)} |")
    return lines


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Relative error against rows of burn-in, logarithmic."""
    figure, axes = blank_axes()
    for number, (name, group) in enumerate(document["starts"].items()):
        stored = name != "zero"
        style = {"color": COLOURS[number]} if stored else {"color": GRAY, "linestyle": (0, (5, 4))}
        axes.semilogy(np.arange(ROWS), relative(group), linewidth=2, label=name, **style)
    axes.set_xlabel("rows of burn-in")
    axes.set_ylabel("error / mean of max |q|")
    axes.legend(frameon=False)
    axes.set_title(document["title"], loc="left", fontsize=10)
    figure.savefig(out)


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=12, help="files for each quarter of the run")
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    asked = parser.parse_args()
    config, loaded = load_config(asked.run), load(asked.run, "cpu")
    policy = loaded.policy
    assert isinstance(policy, QPolicy)
    starts: dict[str, Any] = {}
    empty: list[Measure] = []
    for number, paths in enumerate(choose(asked.run / "replay", asked.chunks)):
        found = [measure(policy, read_chunk(path), config.replay.window.period) for path in paths]
        starts[f"stored, quarter {number + 1} of the run"] = summed([each["stored"] for each in found])
        empty += [each["zero"] for each in found]
    document = {
        "command": shlex.join(["python", "-m", "benchmarks.burn_in", *sys.argv[1:]]),
        "title": f"{config.name} on {config.env.id}, {loaded.env_steps:,} env_steps: what is left of a start state",
        "env_steps": loaded.env_steps,
        "starts": starts | {"zero": summed(empty)},
    }
    table = markdown(document)
    write_document(document, asked.out, table, draw)
    print("\n".join(table))


if __name__ == "__main__":
    main()
