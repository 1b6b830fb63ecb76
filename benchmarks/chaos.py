"""Training while everything around it dies: are all rows whole, does memory stay, is the curve that of quiet runs?

    python -m benchmarks.chaos --out results/distributed/chaos.json

DQN learns CartPole with two actors on a Ray cluster of two nodes on this machine. An actor is killed (SIGKILL) every
minute, the second node removed and returned every five, the learner killed twice, at a third and two thirds of the run,
and started again by the same command. Quiet runs of other seeds, one after another, give the band in which the curve
of one more of them would lie.

Rows need no seal: CartPole's next state follows from a state and an action, and states begin at random. A row that does
not follow from the one before it in its episode is corrupt or spliced, a state that occurs twice was doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import keep
from reverie.data.dataset import open_dataset
from reverie.report.log import read_metrics

VARIABLES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""of all processes: everything listens on loopback"""
NODES = """
import sys
from ray.cluster_utils import Cluster
each = {"num_cpus": 2, "object_store_memory": 150_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
second = cluster.add_node(**each)
print("ADDRESS", cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "remove":
        cluster.remove_node(second, allow_graceful=False)
    if line.strip() == "return":
        second = cluster.add_node(**each)
    print("DONE", flush=True)
cluster.shutdown()
"""
LEARNER = "the learner was killed"
BINS = 20
"""parts of a run whose mean scores make a curve"""
T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""by the number of quiet runs: Student's t with one degree of freedom less, of which 2.5 % lie above"""


class Nodes:
    """A cluster of two nodes in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=os.environ | VARIABLES,
        )  # fmt: skip
        self.address = self._wait("ADDRESS").split()[1]

    def do(self, what: str) -> None:
        """``remove`` or ``return`` the second node."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self._wait("DONE")

    def _wait(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line
        raise SystemExit("the cluster has ended")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def learner(run_dir: Path, seed: int, env_steps: int, address: str) -> subprocess.Popen[bytes]:
    """The command that trains, and goes on."""
    command = [sys.executable, "-m", "reverie.cli", "train", "dqn", "--preset", "cpu", "--env", "CartPole-v1"]
    command += ["--logdir", str(run_dir), "--seed", str(seed), "--env_steps", str(env_steps), "--actors", "2"]
    command += ["--ray.address", address, "--replay.store.budget", "50MB", "--run.eval_every", "0"]
    command += ["--run.checkpoint_every", str(checkpoint_every(env_steps))]
    log = (run_dir.parent / f"{run_dir.name}.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | VARIABLES | {"OMP_NUM_THREADS": "1"})


def checkpoint_every(env_steps: int) -> int:
    """env_steps between the checkpoints of a run of that length."""
    return max(env_steps // 60, 1000)


def status(run_dir: Path) -> dict[str, Any]:
    """What the run tells of itself; nothing while it has told nothing."""
    try:
        return json.loads((run_dir / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def disturbed(run_dir: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train a run among faults, and tell them: second, what."""
    nodes, faults = Nodes(), list[dict[str, Any]]()
    began = time.monotonic()

    def note(what: str, **more: int) -> None:
        faults.append({"second": round(time.monotonic() - began, 1), "what": what, **more})
        print(f"{faults[-1]['second']:8.1f} s  {what} {more or ''}", flush=True)

    process = learner(run_dir, seed, options.env_steps, nodes.address)
    due = {"actor": options.actor_every, "node": options.node_every}
    kills = [options.env_steps * part // 3 for part in (1, 2)]
    away, turn = False, 0
    while process.poll() is None:
        time.sleep(1.0)
        now, told = time.monotonic() - began, status(run_dir)
        if now >= due["actor"]:
            due["actor"] += options.actor_every
            pids = [each["pid"] for each in told.get("actors", []) if each["pid"] and alive(each["pid"])]
            if pids:
                os.kill(pids[turn % len(pids)], signal.SIGKILL)
                turn += 1
                note("an actor was killed")
        if now >= due["node"]:
            due["node"] += options.node_every
            away = not away
            nodes.do("remove" if away else "return")
            note("the second node was removed" if away else "the second node returned")
        if kills and told.get("env_steps", 0) >= kills[0]:
            kills.pop(0)
            process.kill()
            process.wait()
            note(LEARNER, env_steps=told["env_steps"])
            process = learner(run_dir, seed, options.env_steps, nodes.address)
    note(f"the run ended with exit code {process.returncode}")
    nodes.close()
    return faults


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def look(replay: Path) -> dict[str, int]:
    """Rows of a run on CartPole: how many there are, do not follow from the one before, or occur twice."""
    counts = dict.fromkeys(("rows", "episodes", "cut_episodes", "wrong", "doubled"), 0)
    dataset, seen = open_dataset(replay), list[np.ndarray]()
    for stream in dataset.streams:
        rows = dataset.rows(stream)
        obs, first, last = rows["obs.vector"], rows["is_first"], rows["is_last"]
        goes = ~last[:-1]
        follows = np.abs(moved(obs[:-1], rows["action"][:-1]) - obs[1:]).max(-1) < 1e-4
        right = follows & ~first[1:] & (rows["prev_action"][1:] == rows["action"][:-1]) & (rows["reward"][1:] == 1)
        begins = first[1:] & (np.abs(obs[1:]).max(-1) <= 0.05)
        counts["wrong"] += int((goes & ~right).sum() + (~goes & ~begins).sum() + (not first[0]))
        counts["rows"] += len(first)
        counts["episodes"] += int(last.sum())
        counts["cut_episodes"] += int((last & ~rows["is_terminal"]).sum())
        seen.append(obs)
    states = np.concatenate(seen)
    counts["doubled"] = len(states) - len(np.unique(states, axis=0))
    return counts


def moved(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """CartPole's next states [n, 4]. Source: Gymnasium's CartPole-v1, Euler's method with steps of 0.02 s."""
    x, v, angle, spin = state.astype(np.float64).T
    force = np.where(action == 1, 10.0, -10.0)
    pull = (force + 0.05 * spin**2 * np.sin(angle)) / 1.1
    turn = (9.8 * np.sin(angle) - np.cos(angle) * pull) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
    push = pull - 0.05 * turn * np.cos(angle) / 1.1
    return np.stack([x + 0.02 * v, v + 0.02 * push, angle + 0.02 * spin, spin + 0.02 * turn], -1)


def curve(run_dir: Path, env_steps: int) -> list[float | None]:
    """Mean score of the episodes that ended in each part of a run."""
    parts: list[list[float]] = [[] for _ in range(BINS)]
    for line in read_metrics(run_dir):
        if "episode/score" in line:
            parts[min(int(line["env_steps"] * BINS / env_steps), BINS - 1)].append(line["episode/score"])
    return [float(np.mean(part)) if part else None for part in parts]


def memory(run_dir: Path, kills: list[int]) -> dict[str, Any]:
    """PSS in MB of each of the learner's lives, and of all actors: medians of the second tenth and of the last tenth.

    kills: env_steps at which the learner was killed. Lines of before a kill that its next life wrote again, those since
    the newest checkpoint, are left out.
    """
    lines = [line for line in read_metrics(run_dir) if "actor/memory" in line]
    last = int(max(line["env_steps"] for line in lines))
    lives = []
    for begin, end in zip([0, *kills], [*kills, last], strict=True):
        lost = checkpoint_every(last) if end in kills else 0
        own = [line["actor/learner_memory"] for line in lines if begin < line["env_steps"] <= end - lost]
        lives.append(growth(own))
    return {"learner": lives, "actors": growth([line["actor/memory"] for line in lines])}


def growth(values: list[float]) -> dict[str, float]:
    """Medians of the second tenth and of the last tenth of a series of bytes, in MB, and their ratio."""
    tenth = max(len(values) // 10, 1)
    early, late = np.median(values[tenth : 2 * tenth]), np.median(values[-tenth:])
    return {"early": round(float(early) / 1e6, 1), "late": round(float(late) / 1e6, 1), "ratio": float(late / early)}


def main() -> None:
    """Disturb, look, compare, and keep the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-steps", type=int, default=600_000)
    parser.add_argument("--actor-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--node-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--quiet", type=int, default=3, choices=sorted(T), help="undisturbed runs")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--work", type=Path, help="keep the runs here; what is complete there is not repeated")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "command": f"python -m benchmarks.chaos --env-steps {options.env_steps}",
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "seed": options.seed,
    }
    run_dir, told = work / "chaos", work / "faults.json"
    if not told.exists():
        told.write_text(json.dumps(disturbed(run_dir, options.seed, options)))
    document["faults"] = json.loads(told.read_text())
    document["minutes"] = document["faults"][-1]["second"] / 60
    kills = [fault["env_steps"] for fault in document["faults"] if fault["what"] == LEARNER]
    document |= {"rows": look(run_dir / "replay"), "memory_mb": memory(run_dir, kills)}
    document["curve"] = curve(run_dir, options.env_steps)
    print(
        json.dumps({name: document[name] for name in ("minutes", "rows", "memory_mb", "curve")}, indent=1), flush=True
    )
    quiet = document["quiet"] = []
    for number in range(options.quiet):
        place = work / f"quiet-{number}"
        if status(place).get("env_steps", 0) < options.env_steps:
            nodes = Nodes()
            learner(place, options.seed + 1 + number, options.env_steps, nodes.address).wait()
            nodes.close()
        quiet.append({"seed": options.seed + 1 + number, "curve": curve(place, options.env_steps)})
        quiet[-1] |= {"rows": look(place / "replay")}
        print(json.dumps(quiet[-1]), flush=True)
        if options.out:
            keep(document, options.out)
    document["band"] = band([each["curve"] for each in quiet])
    document["inside_band"] = inside(document["curve"], document["band"])
    print(f"parts of the curve inside the band of quiet runs: {document['inside_band']}")
    if options.out:
        keep(document, options.out)
    if not options.work:
        shutil.rmtree(work)


def band(curves: list[list[float | None]]) -> list[tuple[float, float] | None]:
    """Where one more quiet run would lie with a probability of 95 %, by part: mean -+ t s sqrt(1 + 1/n).

    None where a curve has no score.
    """
    lines: list[tuple[float, float] | None] = []
    for scores in zip(*curves, strict=True):
        values = np.array([score for score in scores if score is not None])
        if len(values) < len(curves):
            lines.append(None)
            continue
        reach = T[len(values)] * values.std(ddof=1) * (1 + 1 / len(values)) ** 0.5
        lines.append((float(values.mean() - reach), float(values.mean() + reach)))
    return lines


def inside(line: list[float | None], limits: list[tuple[float, float] | None]) -> str:
    """In how many parts a curve lies between two others."""
    compared = [(own, each) for own, each in zip(line, limits, strict=True) if own is not None and each is not None]
    return f"{sum(low <= own <= high for own, (low, high) in compared)} of {len(compared)}"


if __name__ == "__main__":
    main()
