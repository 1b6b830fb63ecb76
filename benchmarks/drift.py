"""What the drift gauge costs: the share of R2D2's update at the published sizes that is spent in it.

    python -m benchmarks.drift --threads 2 --out results/performance/drift.json

The gauge is the only part of an update that `replay.window.drift` adds. It is timed inside the update, because between
two updates of a second each there is more noise than it costs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.r2d2_learner import build, windows
from benchmarks.timing import summary, surroundings, timed, update, write
from reverie.agents.drqn import DRQNLearner
from reverie.run.allocator import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    learner = build(torch.device("cpu"), torch.float32, 512, drift=True)
    assert isinstance(learner, DRQNLearner)
    batch = windows(learner, options.batch)
    gauge, inside = learner.measure_drift, []

    def measured(*given: Any) -> None:
        inside.append(timed(lambda: gauge(*given)))

    learner.measure_drift = measured  # type: ignore[method-assign]
    for _ in range(2):
        update(learner.update, batch, "q_loss")
    inside.clear()
    whole = [timed(lambda: update(learner.update, batch, "q_loss")) for _ in range(options.repeats)]
    shares = np.array(inside) / np.array(whole)
    document = {
        "what": f"R2D2 learner update with the drift gauge at two rows of {options.batch} windows",
        "rows": learner.windows.probes,
        "update": summary(whole),
        "gauge": summary(inside),
        "share_of_wall_time_median": float(np.median(shares[:, 0])),
        "share_of_processor_time_median": float(np.median(shares[:, 1])),
    }
    write(document | surroundings(), options.out)


if __name__ == "__main__":
    main()
