"""What a new look at every reset costs, and what it looks like; see docs/environments.md.

    python benchmarks/remastered.py --out results/environments/remastered

Writes a contact sheet: one line of pictures per task, the plain one and then those of the visual seeds 0, 1, ..., all
in the same state; and a JSON file with milliseconds of a reset, of the parts that a look adds to it, and of a step.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from reverie.envs.control import REMASTERED, VISION, Control, choose_gl
from reverie.envs.remastered import FACTORS

TASKS = ("cheetah-run", "walker-walk", "cartpole-swingup", "reacher-easy", "finger-spin", "quadruped-walk")


def control(task: str, **options: Any) -> Control:
    """A task with all seven factors varied, unless options say otherwise."""
    domain, name = task.split("-", 1)
    return Control(domain, name, replace(REMASTERED, **options))


def line(task: str, looks: int, size: int, **options: Any) -> np.ndarray:
    """Pictures side by side: uint8 [size, (1 + looks) size, 3], of one state, the plain look first."""
    pictures = []
    for seed in (None, *range(looks)):
        pool = {"vary": ()} if seed is None else {"visual_seeds": 1, "first_visual_seed": seed}
        env = control(task, size=size, **{**options, **pool})
        pictures.append(env.reset(seed=1)[0])
        env.close()
    return np.concatenate(pictures, axis=1)


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """Median duration of a call."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(taken), 2)


def costs(task: str, repeats: int) -> dict[str, float]:
    """Milliseconds of resets and steps of `task`, with and without looks."""
    domain, name = task.split("-", 1)
    plain, varied = Control(domain, name, VISION), control(task)
    action = np.zeros(plain.action_space.shape, np.float32)
    report = {}
    for label, env in (("plain", plain), ("remastered", varied)):
        env.reset(seed=0)
        env.reset(seed=0)
        report[f"reset_{label}_ms"] = milliseconds(env.reset, repeats)
        report[f"step_{label}_ms"] = milliseconds(lambda env=env: env.step(action), repeats)
    visuals = varied._visuals
    assert visuals is not None
    report["draw_ms"] = milliseconds(lambda: visuals.draw(0), repeats)

    def upload() -> None:
        visuals._stale = True
        visuals.upload()

    report["upload_ms"] = milliseconds(upload, repeats)
    for factor in FACTORS:
        lone = control(task, vary=(factor,))
        lone.reset(seed=0)
        assert lone._visuals is not None
        report[f"draw_{factor}_ms"] = milliseconds(lambda lone=lone: lone._visuals.draw(0), repeats)
        lone.close()
    plain.close()
    varied.close()
    return report


def main() -> None:
    """Make both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="path of the files, without a suffix")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--looks", type=int, default=15, help="visual seeds per task")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--vary", nargs="*", default=list(FACTORS), help="factors shown")
    parser.add_argument("--repeats", type=int, default=20, help="resets and steps that are timed; 0 for pictures only")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = [line(task, args.looks, args.size, vary=tuple(args.vary)) for task in args.tasks]
    imageio.imwrite(args.out.with_suffix(".png"), np.concatenate(lines))
    if args.repeats:
        report = {
            "machine": {"processor": platform.machine(), "renderer": choose_gl(), "python": platform.python_version()},
            "tasks": {task: costs(task, args.repeats) for task in args.tasks[:2]},
        }
        args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
