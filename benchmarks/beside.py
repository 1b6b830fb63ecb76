"""Ours and others', in turns, in one run on one machine: the only speeds that are told as ratios.

    python -m benchmarks.beside --peers ../peers --out results/performance/beside.json
    python -m benchmarks.beside --peers ../peers --works insert sample

Every peer is installed from PyPI into an environment of its own below --peers, at first use; ours is the one that runs
this. Racers are processes that stay (`benchmarks/peers`): each does a round of its work when it is its turn. A ratio
is the median over pairs of rounds that follow each other, by the clock; on a machine that others use, look at that of
processor time as well. It is above 1 where Reverie is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import keep, surroundings

HERE = Path(__file__).resolve().parent / "peers"
TORCH = f"torch=={torch.__version__.partition('+')[0]}"
PACKAGES = {
    "cpprb": ["cpprb==11.0.0"],
    "stable-baselines3": [
        "stable-baselines3==2.9.2",
        "ale-py==0.12.1",
        "opencv-python-headless",
        TORCH,
    ],
    "sheeprl": ["sheeprl==0.8.4", TORCH],
}


@dataclass(frozen=True)
class Work:
    """What is raced. what: in words; unit: of its items. ours, theirs: programs in `benchmarks/peers`; peer: whose."""

    what: str
    unit: str
    ours: str
    theirs: str
    peer: str


WORKS = {
    "insert": Work("rows of 84x84 bytes, 8 streams a call", "rows", "replay_reverie", "replay_cpprb", "cpprb"),
    "sample": Work(
        "64 prioritised sequences of 120 rows of 84x84 bytes, priorities written back",
        "sequences", "replay_reverie", "replay_cpprb", "cpprb",
    ),
    "mlp": Work(
        "DQN's updates of two layers of 256 units on 32 rows of CartPole",
        "updates", "dqn_reverie", "dqn_sb3", "stable-baselines3",
    ),
    "pong": Work(
        "DQN on Pong, one environment, an update on 32 rows every 4 env_steps",
        "env_steps", "dqn_reverie", "dqn_sb3", "stable-baselines3",
    ),
    "dreamerv2": Work(
        "DreamerV2's updates of 16 x 64 rows of 64x64x3, networks of 3.5 million parameters",
        "updates", "dreamerv2_reverie", "dreamerv2_sheeprl", "sheeprl",
    ),
    "dreamerv2-small": Work(
        "DreamerV2's updates of 8 x 32 rows of 64x64x3, the same networks",
        "updates", "dreamerv2_reverie", "dreamerv2_sheeprl", "sheeprl",
    ),
}  # fmt: skip


class Racer:
    """A process that does a round when it is asked."""

    def __init__(self, python: str, program: str, work: str, threads: int) -> None:
        path = {"PYTHONPATH": str(HERE.parent.parent)} if python == sys.executable else {}
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | path
        self.process = subprocess.Popen(
            [python, str(HERE / f"{program}.py"), work, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=variables | {"OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        self.about = self._answer()

    def round(self) -> dict[str, float]:
        """Items, seconds and processor seconds of one round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended: run it by hand to see why")  # type: ignore[arg-type]
        return json.loads(line)

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def installed(peer: str, folder: Path) -> str:
    """The interpreter of a peer's environment, which is made if it is not there."""
    place = folder / peer
    python = place / "bin" / "python"
    if not (place / "whole").exists():
        venv.create(place, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[peer]], check=True)
        (place / "whole").touch()
    return str(python)


def race(name: str, python: str, rounds: int, threads: int) -> dict[str, Any]:
    """Both sides of a work in turns; the first round of each does not count."""
    work = WORKS[name]
    ours, theirs = Racer(sys.executable, work.ours, name, threads), Racer(python, work.theirs, name, threads)
    pairs = [(ours.round(), theirs.round()) for _ in range(rounds + 1)][1:]
    found: dict[str, Any] = {"what": work.what, "unit": work.unit, "peer": f"{work.peer} {theirs.about['version']}"}
    for clock in ("seconds", "processor_seconds"):
        rates = [[side["items"] / side[clock] for side in pair] for pair in pairs]
        mine, other = (list(column) for column in zip(*rates, strict=True))
        found[f"per_{clock.removesuffix('s')}"] = {
            "reverie": statistics.median(mine),
            "peer": statistics.median(other),
            "ratio": statistics.median(a / b for a, b in rates),
            "ratios": [round(a / b, 3) for a, b in rates],
        }
    ours.close()
    theirs.close()
    return found


def said(speed: float) -> str:
    """A speed in words, to three digits or whole."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def main() -> None:
    """Race, print, and keep the document after each work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder of the peers' environments")
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    document: dict[str, Any] = {**surroundings(), "threads": asked.threads, "rounds": asked.rounds, "works": {}}
    for name in asked.works:
        document["works"][name] = found = race(
            name, installed(WORKS[name].peer, asked.peers), asked.rounds, asked.threads
        )
        by_clock, by_processor = found["per_second"], found["per_processor_second"]
        print(
            f"{name}: {said(by_clock['reverie'])} {found['unit']}/s, {said(by_clock['peer'])} of {found['peer']}: "
            f"{by_clock['ratio']:.2f} ({by_processor['ratio']:.2f} by processor time)",
            flush=True,
        )
        if asked.out:
            keep(document, asked.out)


if __name__ == "__main__":
    main()
