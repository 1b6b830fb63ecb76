"""Half an hour of chaos: a distributed run whose actors, machines and learner are killed, and what is left of it.

    python benchmarks/chaos.py --out results/distributed/chaos

A cluster of two nodes on this machine; Ape-X on CartPole with two actors. Every minute an actor is killed (SIGKILL);
every five minutes the second node is taken away, and returned a minute later; twice the learner's process is killed and
the same command given again. Then as many undisturbed runs of the same length in env_steps (--undisturbed), on other
seeds. Checked, and written to <out>.json:

- **rows**: CartPole's next state is a function of state and action, which is computed again for every row that is
  stored: one that was lost, doubled, altered or spliced to another episode does not follow from the one before.
- **memory**: what the learner's and the actors' processes have (PSS), after the first fifth of the run and at its end.
- **score**: mean of the episodes by tenths of the run, beside the least and the most of the undisturbed runs.

The verdict is printed; exit code 1 if rows are wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from reverie.data.dataset import open_dataset
from reverie.report.log import read_metrics

TENTHS = 10


def command(run_dir: Path, env_steps: int, seed: int, address: str) -> list[str]:
    """The command of a run."""
    return [
        *(sys.executable, "-m", "reverie.cli", "train", "apex", "--env", "CartPole-v1", "--actors", "2"),
        *("--env_steps", str(env_steps), "--seed", str(seed), "--ray.address", address, "--logdir", str(run_dir)),
        *("--run.checkpoint_every", "5000", "--run.log_every", "2000", "--replay.store.budget", "200000000"),
    ]


def environment() -> dict[str, str]:
    """Variables of all processes: one private cluster that listens on loopback."""
    return os.environ | {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }


class Chaos:
    """The disturbed run. minutes: how long it is disturbed; it is then trained to its end."""

    def __init__(self, work: Path, env_steps: int, minutes: float, seed: int) -> None:
        from ray.cluster_utils import Cluster

        self.work, self.minutes = work, minutes
        options = {"num_cpus": 2, "object_store_memory": 150_000_000, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)
        self.options = {"num_cpus": 2, "object_store_memory": 150_000_000}
        self.second: Any = self.cluster.add_node(**self.options)
        self.run_dir = work / "disturbed"
        self.words = command(self.run_dir, env_steps, seed, self.cluster.address)
        self.events: list[dict[str, Any]] = []
        self.learner: subprocess.Popen[bytes] | None = None
        self.since = time.monotonic()

    def note(self, what: str) -> None:
        """Write an event down."""
        self.events.append({"seconds": round(time.monotonic() - self.since), "what": what})
        print(self.events[-1], flush=True)

    def launch(self) -> None:
        """Give the command, anew or again."""
        log = (self.work / "disturbed.log").open("ab")
        self.learner = subprocess.Popen(self.words, stdout=log, stderr=subprocess.STDOUT)

    def actors(self) -> list[int]:
        """Processes of the actors, as the run's status says."""
        try:
            status = json.loads((self.run_dir / "status.json").read_text())
        except (OSError, ValueError):
            return []
        return [actor["pid"] for actor in status.get("actors", []) if actor["pid"]]

    def run(self) -> None:
        """Disturb the run, then let it end."""
        self.launch()
        next_actor, next_node, node_back = 60.0, 300.0, float("inf")
        learners = [self.minutes * 60 * share for share in (0.35, 0.7)]
        rng = np.random.default_rng(0)
        while (now := time.monotonic() - self.since) < self.minutes * 60:
            time.sleep(0.5)
            if now >= next_actor:
                next_actor += 60.0
                if actors := self.actors():
                    pid = int(rng.choice(actors))
                    try:
                        os.kill(pid, signal.SIGKILL)
                        self.note(f"actor {pid} killed")
                    except ProcessLookupError:
                        self.note(f"actor {pid} was gone already")
            if now >= next_node:
                next_node, node_back = next_node + 300.0, now + 60.0
                self.cluster.remove_node(self.second, allow_graceful=False)
                self.note("second node removed")
            if now >= node_back:
                node_back = float("inf")
                self.second = self.cluster.add_node(**self.options)
                self.note("second node returned")
            assert self.learner is not None
            if learners and now >= learners[0]:
                learners.pop(0)
                self.learner.send_signal(signal.SIGKILL)
                self.learner.wait()
                self.note("learner killed")
                self.launch()
            elif self.learner.poll() is not None:
                self.note(f"learner ended with {self.learner.returncode}")
                if self.learner.returncode == 0:
                    break
                self.launch()
        assert self.learner is not None
        self.note(f"all over, the run ends with {self.learner.wait()}")
        self.cluster.shutdown()


def wrong_rows(run_dir: Path) -> dict[str, int]:
    """Rows of all streams, and those that do not follow from the one before them."""
    data = open_dataset(run_dir / "replay")
    env: Any = gymnasium.make("CartPole-v1").unwrapped
    counts = {"rows": 0, "not the next state": 0, "wrong beginning": 0, "wrong reward": 0, "wrong previous action": 0}
    for stream in data.streams:
        rows = data.rows(stream)
        key = next(name for name in rows if name.startswith("obs."))
        obs, first, last = rows[key], rows["is_first"], rows["is_last"]
        counts["rows"] += len(first)
        counts["wrong beginning"] += int((first[1:] != last[:-1]).sum())
        for t in np.flatnonzero(~last[:-1]).tolist():
            counts["not the next state"] += int(not follows(env, obs[t], int(rows["action"][t]), obs[t + 1]))
            counts["wrong reward"] += int(rows["reward"][t + 1] != 1.0)
            counts["wrong previous action"] += int(rows["prev_action"][t + 1] != rows["action"][t])
    return counts


def follows(env: Any, obs: np.ndarray, action: int, after: np.ndarray) -> bool:
    """Whether `after` is what CartPole shows after that action; states are float32 here and float64 there."""
    env.reset(seed=0)
    env.state, env.steps_beyond_terminated = tuple(np.float64(obs)), None
    return bool(np.allclose(env.step(action)[0], after, rtol=1e-4, atol=1e-5))


def curve(run_dir: Path, env_steps: int) -> list[float | None]:
    """Mean score of the episodes that ended in each tenth of the run."""
    parts: list[list[float]] = [[] for _ in range(TENTHS)]
    for line in read_metrics(run_dir):
        if "episode/score" in line:
            parts[min(int(line["env_steps"] * TENTHS / env_steps), TENTHS - 1)].append(line["episode/score"])
    return [round(float(np.mean(part)), 1) if part else None for part in parts]


def memory(run_dir: Path, env_steps: int) -> dict[str, float]:
    """Bytes of learner and actors (PSS): mean of the second tenth and of the last, and the growth between them."""
    lines = [line for line in read_metrics(run_dir) if "actor/memory" in line]
    out: dict[str, float] = {}
    for name in ("actor/memory", "actor/learner_memory"):
        early = [x[name] for x in lines if 0.1 <= x["env_steps"] / env_steps < 0.2]
        late = [x[name] for x in lines if x["env_steps"] / env_steps >= 0.9]
        out |= {f"{name} early": float(np.mean(early)), f"{name} late": float(np.mean(late))}
        out[f"{name} growth"] = out[f"{name} late"] / out[f"{name} early"] - 1.0
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--env_steps", type=int, default=250_000)
    parser.add_argument("--undisturbed", type=int, default=3, help="runs beside which the score is seen")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    os.environ.update(environment())
    work = options.work or Path(tempfile.mkdtemp(prefix="chaos-"))
    work.mkdir(parents=True, exist_ok=True)
    chaos = Chaos(work, options.env_steps, options.minutes, options.seed)
    chaos.run()
    rows = wrong_rows(chaos.run_dir)
    undisturbed = []
    for k in range(options.undisturbed):
        run_dir = work / f"undisturbed-{k}"
        shutil.rmtree(run_dir, ignore_errors=True)
        subprocess.run(command(run_dir, options.env_steps, options.seed + 1 + k, "local"), check=True)
        undisturbed.append(curve(run_dir, options.env_steps))
    document = {
        "command": " ".join(["python", *sys.argv]),
        "events": chaos.events,
        "rows": rows,
        "memory": memory(chaos.run_dir, options.env_steps),
        "score": {"disturbed": curve(chaos.run_dir, options.env_steps), "undisturbed": undisturbed},
        "incidents": (chaos.run_dir / "incidents.log").read_text().splitlines(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({name: document[name] for name in ("rows", "memory", "score")}, indent=1))
    sys.exit(1 if any(count for name, count in rows.items() if name != "rows") else 0)


if __name__ == "__main__":
    main()
