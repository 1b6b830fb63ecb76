"""What an actor on Ray costs and gives, and where a run of hundreds of them would end; see docs/performance.md.

    python -m benchmarks.actors --out results/performance/actors.json

R2D2 on Pong with the published network and sizes of rows, 16 streams of each actor, one thread each: the environments
alone with fixed actions, the local runner, one actor and two actors on Ray, in turns. Runs only collect (a learner_step
is due after a million rows), so the learner's process takes rows and messages in and nothing else. Of each part of
a run, wall clock and processor seconds of all its processes are read twice, half a minute apart.

The model of a larger run knows these costs, the time of an update (committed, one H100) and what the paper asks for:

    actors      n a                    env_steps/s             a: of one actor alone
    intake      1 / c                  rows/s                  c: processor seconds of the learner's process for a row
    learners    L s / r                env_steps/s             s: rows/s that one learner trains, r: rows per env_step
    network     n a b + n p / e        bytes/s                 b: bytes of a row, p: of the parameters, e: seconds
                                                               between two fetches

The least of the first three is what the run makes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import surroundings, write
from reverie import make_config, overrides
from reverie.config import Config
from reverie.data.rows import RowSpec
from reverie.run.build import build_agent, build_env, build_learner, row_specs

STREAMS = 16
KINDS = {"environments": -1, "local": 0, "one actor": 1, "two actors": 2}
LEARNER = Path("results/performance/r2d2_learner_h100.json")
PUBLISHED = {
    "Ape-X, 360 actors (Horgan et al. 2018, section 4.1 and appendix C)": 50_000,
    "IMPALA, 500 actors (Espeholt et al. 2018, table 1)": 250_000,
    "R2D2, 256 actors (Kapturowski et al. 2019, section 2.3)": 66_600,
}
"""frames/s"""
PAPERS_ACTOR = 65.0
"""env_steps/s: 260 frames/s of each actor (Kapturowski et al. 2019, section 2.3)"""
FETCH_EVERY = 400
"""env_steps of a stream between two fetches of the parameters (the same place)"""


def settings(actors: int) -> dict[str, Any]:
    """Overrides of R2D2's `atari` under which a run does nothing but collect."""
    return {
        "env.num_envs": STREAMS * max(actors, 1),
        "env.options.full_actions": False,
        "replay.store.budget": 1_500_000_000,
        "run.env_steps": 10_000_000,
        "run.prefill": 0,
        "run.train_ratio": 1e-6,
        "run.log_every": 500,
        "run.eval_every": 0,
        "run.checkpoint_every": 10_000_000,
        "run.threads": 1,
        "log.writers": [],
        "ray.actors": actors,
    }


def processes(root: int) -> dict[int, str]:
    """A process and all that come of it: number -> name."""
    parents, names = dict[int, int](), dict[int, str]()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            text = (place / "stat").read_text()
            title = (place / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        parents[int(place.name)] = int(text.rpartition(")")[2].split()[1])
        names[int(place.name)] = title if title.startswith("ray::") else text[text.index("(") + 1 : text.rindex(")")]
    found = {root: "learner"}
    while new := {pid: names[pid] for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= new
    return found


def spent(pids: dict[int, str]) -> dict[str, float]:
    """Processor seconds so far, of the learner's process, of the actors, of Ray's own processes."""
    seconds = dict.fromkeys(("learner", "actors", "ray"), 0.0)
    for pid, name in pids.items():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        part = "learner" if name == "learner" else "actors" if name.startswith("ray::") else "ray"
        seconds[part] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def newest(run_dir: Path) -> tuple[float, int]:
    """When the newest line was logged, and after how many env_steps; zeros before there is one."""
    try:
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return 0.0, 0
    whole = [line for line in map(json.loads, lines[-3:-1]) if "env_steps" in line]
    return (whole[-1]["time/unix_s"], whole[-1]["env_steps"]) if whole else (0.0, 0)


def run(actors: int, seconds: float) -> dict[str, Any]:
    """env_steps/s of a run that collects, and processor seconds per row of each part."""
    sets = [
        f"--{key}={json.dumps(value) if isinstance(value, bool | list) else value}"
        for key, value in settings(actors).items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "reverie.cli", "train", "r2d2", "--preset", "atari", "--env", "ALE/Pong-v5"]
        process = subprocess.Popen([*command, "--logdir", str(run_dir), *sets], stdout=subprocess.DEVNULL)
        try:
            while newest(run_dir)[1] < 4000:
                if process.poll() is not None:
                    raise SystemExit(f"the run ended with exit code {process.returncode}")
                time.sleep(1.0)
            pids = processes(process.pid)
            (then, rows), before = newest(run_dir), spent(pids)
            began = time.time()
            time.sleep(seconds)
            (now, more), after = newest(run_dir), spent(pids)
            rate = (more - rows) / (now - then)
            wall = time.time() - began
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        parts = {name: (after[name] - before[name]) / (rate * wall) for name in after}
    return {"env_steps_per_s": rate, "processor_seconds_per_row": parts}


def alone(seconds: float) -> dict[str, Any]:
    """env_steps/s of the environments of one actor, with fixed actions."""
    torch.set_num_threads(1)
    env = build_env(configured())
    env.reset(0)
    actions, count, began = np.zeros(STREAMS, np.int64), 0, time.perf_counter()
    while (wall := time.perf_counter() - began) < seconds:
        env.step(actions)
        count += STREAMS
    env.close()
    return {"env_steps_per_s": count / wall}


def configured() -> Config:
    """The configuration of a local run."""
    return overrides.apply(make_config("r2d2", "atari", "ALE/Pong-v5"), settings(0))


def sizes() -> dict[str, float]:
    """Bytes of a row with its share of the stored states, and of the parameters that an actor fetches."""
    config = configured()
    env = build_env(config)
    learner = build_learner(config, build_agent(config, env.spec), torch.device("cpu"))
    rows, states = row_specs(config, learner, env.spec)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in learner.policy.state_dict().values())
    env.close()
    period = config.replay.window.period
    return {"row": size(rows) + size(states or {}) / period, "parameters": float(weights)}


def size(spec: RowSpec) -> float:
    """Bytes of one row of these fields."""
    return float(sum(np.prod(field.shape, dtype=int) * field.dtype.itemsize for field in spec.values()))


def modelled(
    medians: dict[str, Any], bytes_of: dict[str, float], actors: int, learners: int, streams: int
) -> dict[str, Any]:
    """What a run of so many actors would make, in env_steps/s, and what ends it first.

    streams: of one actor. An actor with one stream makes what the paper's does, 65 env_steps/s; one with as many as
    here what was measured.
    """
    update = json.loads(LEARNER.read_text())["runs"][0]
    config = make_config("r2d2", "atari", "ALE/Pong-v5")
    trained = config.replay.batch * config.replay.window.learn / update["seconds_median"]
    alone = medians["one actor"]["env_steps_per_s"] if streams == STREAMS else PAPERS_ACTOR
    limits = {
        "actors": actors * alone,
        "intake of one process": 1.0 / medians["two actors"]["processor_seconds_per_row"]["learner"],
        "learners": learners * trained / config.run.train_ratio,
    }
    first = min(limits, key=lambda name: limits[name])
    made = limits[first]
    fetches = made / (actors * streams) / FETCH_EVERY
    network = made * bytes_of["row"] + actors * fetches * bytes_of["parameters"]
    enough = min(limits["actors"], limits["learners"])
    return {
        "actors": actors,
        "learners": learners,
        "streams_of_an_actor": streams,
        "limits_env_steps_per_s": limits,
        "first": first,
        "frames_per_s": made * 4,
        "network_bytes_per_s": network,
        "shards_for_the_next_limit": int(np.ceil(enough / limits["intake of one process"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each kind in each round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(options.rounds):
        for kind, actors in KINDS.items():
            results[kind].append(alone(options.seconds / 3) if actors < 0 else run(actors, options.seconds))
            print(number, kind, results[kind][-1], flush=True)
    medians = {kind: median(each) for kind, each in results.items()}
    local, two = medians["local"], medians["two actors"]
    bytes_of = sizes()
    document = {
        "command": f"python -m benchmarks.actors --rounds {options.rounds} --seconds {options.seconds}",
        "what": f"R2D2's published network on Pong, {STREAMS} streams of each actor, collecting",
        "cores": os.cpu_count(),
        "medians": medians,
        "all": results,
        "two_actors_over_local": two["env_steps_per_s"] / local["env_steps_per_s"],
        "overhead_per_row": {kind: overhead(results[kind], results["local"]) for kind in ("one actor", "two actors")},
        "bytes": bytes_of,
        "model": [modelled(medians, bytes_of, 256, 8, streams) for streams in (1, STREAMS)],
        "published_frames_per_s": PUBLISHED,
    }
    write(document | surroundings(), options.out)


def overhead(actors: list[dict[str, Any]], local: list[dict[str, Any]]) -> dict[str, Any]:
    """How much more processor time a row takes in all processes together than in the local run of the same round."""
    sums = [[sum(each["processor_seconds_per_row"].values()) for each in side] for side in (actors, local)]
    shares = [ours / theirs - 1.0 for ours, theirs in zip(*sums, strict=True)]
    return {"median": float(np.median(shares)), "all": shares}


def median(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds, number by number."""
    found: dict[str, Any] = {"env_steps_per_s": float(np.median([each["env_steps_per_s"] for each in results]))}
    if parts := [each["processor_seconds_per_row"] for each in results if "processor_seconds_per_row" in each]:
        found["processor_seconds_per_row"] = {
            name: float(np.median([part[name] for part in parts])) for name in parts[0]
        }
    return found


if __name__ == "__main__":
    main()
