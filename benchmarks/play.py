"""Dreamed frames a second of the page, over a real socket; see docs/play.md.

    python -m benchmarks.play --out results/performance/play.json
    python -m benchmarks.play --run runs/pong

For every agent that dreams, its `cpu` preset on a game of pixels small and large, a vector and a continuous task: a
run of a few env_steps (untrained networks are as fast as trained ones), served by `reverie play` in a process of its
own, and a client that asks for 60 moments a second and acknowledges each at once, as the page does. Counted are moments
whose dream went on, of a quiet server (`along`: the agent at the wheel, the world beside; `alone`: the world waits;
`sixteen`: 16 dreams at once) and of one under abuse (`abused`: like `along`, while three clients that never read have
16 dreams each played for them and send garbage, and 50 sockets open and close). Also the server's processor time for
each (which does not depend on who else is on the machine, as the rate does), how long the command takes until the page
can be opened, and the server's memory before and after the abuse (proportional set size).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from benchmarks.timing import surroundings, write
from reverie import overrides
from reverie.play.page.messages import unpack
from reverie.presets import make_config
from reverie.run.train import train

TASKS = [
    ("dreamerv2", "toy/catch"),
    ("dreamerv2", "ALE/Pong-v5"),
    ("dreamerv2", "CartPole-v1"),
    ("harmonydream", "toy/noisy-catch"),
    ("dreamerv3", "toy/catch"),
    ("dreamerv3-2023", "toy/catch"),
    ("dreamerv1", "toy/catch"),
    ("dreamerv1", "Pendulum-v1"),
]
"""Agents with an actor. PlaNet searches at every decision, which takes as long as it takes."""


def untrained(agent: str, env: str, run_dir: Path) -> Path:
    """A run of the agent's `cpu` preset, as short as it gets."""
    config = make_config(agent, "cpu", env)
    rows = config.env.num_envs * (config.replay.window.context + config.replay.window.learn + 2)
    short = {"run.prefill": rows, "run.pretrain": 0, "run.env_steps": rows + config.env.num_envs, "run.eval_every": 0}
    short |= {"run.eval_episodes": 1, "run.eval_envs": 1, "run.eval_limit": 10, "run.train_ratio": 1.0}
    short |= {"run.device": "cpu", "run.checkpoint_every": 0}
    train(overrides.apply(config, short), run_dir)
    return run_dir


@dataclass
class Server:
    """A served run."""

    host: str
    key: str
    seconds: float
    process: subprocess.Popen[str]

    def visit(self, **more: Any) -> Any:
        """A socket of one more visit."""
        origin = f"http://{self.host}"
        options = {"compression": None, "max_size": None, "close_timeout": 0.2, **more}
        return connect(f"ws://{self.host}/play?key={self.key}", origin=origin, **options)  # type: ignore[arg-type]

    def processor(self) -> float:
        """Processor seconds so far, of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Proportional set size in bytes."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.M)
        assert found is not None
        return float(found[1]) * 1024


@contextmanager
def serving(run_dir: Path) -> Iterator[Server]:
    """A server of a run in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "reverie.cli", "play", str(run_dir), "--no-browser"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    url = next(line.split()[1] for line in iter(process.stdout.readline, "") if line.startswith("open "))
    seconds = time.perf_counter() - began
    host, _, key = url.removeprefix("http://").partition("/?key=")
    try:
        yield Server(host, key, seconds, process)
    finally:
        process.terminate()
        process.wait(20)


def ask(client: ClientConnection, **command: Any) -> None:
    """Send a command."""
    client.send(json.dumps(command))


def look(client: ClientConnection) -> dict[str, Any]:
    """The next view, acknowledged."""
    while True:
        document, _ = unpack(client.recv(timeout=60))  # type: ignore[arg-type]
        if document["kind"] == "view":
            ask(client, do="ack", frame=document["frame"])
            return document


def dreamed(client: ClientConnection, seconds: float, **settings: Any) -> float:
    """Dreamed moments a second that a client gets."""
    chosen = {"speed": 60.0, "wheel": "agent", "along": True, "dreams": 1, "likely": False, "horizon": 1000, **settings}
    ask(client, do="fresh")
    ask(client, do="set", **chosen)
    ask(client, do="play")
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:  # warm
        _go_on(client, look(client))
    began, count, last = time.perf_counter(), 0, None
    while (now := time.perf_counter()) < began + seconds:
        view = look(client)
        count += view["position"] != last and view["dream"]["step"] > 0
        last = view["position"]
        _go_on(client, view)
    ask(client, do="pause")
    return count / (now - began)


def _go_on(client: ClientConnection, view: dict[str, Any]) -> None:
    """Dream on where a dream alone is over."""
    if not view["running"]:
        ask(client, do="fresh")
        ask(client, do="play")


@contextmanager
def abuse(server: Server) -> Iterator[None]:
    """Three clients that never read and send garbage, and 50 sockets that come and go again and again."""
    stop = threading.Event()

    def deaf() -> None:
        with contextlib.suppress(Exception), server.visit(max_queue=1) as client:
            ask(client, do="set", speed=60.0, wheel="agent", dreams=16)
            ask(client, do="play")
            while not stop.is_set():
                client.send('{"do": "nonsense"}')
                time.sleep(0.01)

    def come_and_go() -> None:
        host, port = server.host.split(":")
        hello = (
            f"GET /play?key={server.key} HTTP/1.1\r\nHost: {server.host}\r\nOrigin: http://{server.host}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        for _ in range(50):
            if stop.is_set():
                return
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 10) as client:
                client.sendall(hello)
                time.sleep(0.02)

    threads = [threading.Thread(target=deaf) for _ in range(3)] + [threading.Thread(target=come_and_go)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def settled(server: Server, client: ClientConnection) -> float:
    """Memory of the server, when its one visit has begun afresh and keeps no moments to go back to."""
    ask(client, do="fresh")
    time.sleep(2.0)
    return server.memory()


def measure(run_dir: Path, seconds: float) -> dict[str, Any]:
    """All numbers of one run."""
    with serving(run_dir) as server, ExitStack() as stack:
        client = stack.enter_context(server.visit())
        result: dict[str, Any] = {"seconds_until_open": server.seconds}
        rates, spent = {}, {}
        for name, settings in {"along": {}, "alone": {"along": False}, "sixteen": {"dreams": 16}}.items():
            began, clock = server.processor(), time.perf_counter()
            rates[name] = dreamed(client, seconds, **settings)
            moments = rates[name] * (time.perf_counter() - clock)
            spent[name] = 1e3 * (server.processor() - began) / max(moments, 1.0)
        with abuse(server):  # once, so that what is loaded then is there before
            dreamed(client, 1.0)
        before = settled(server, client)
        with abuse(server):
            rates["abused"] = dreamed(client, seconds)
        after = settled(server, client)
        result |= {"frames_per_second": rates, "processor_ms_per_frame": spent}
        result |= {"pss_bytes": {"before_abuse": before, "after_abuse": after}}
    return result


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", help="a run directory, not the untrained ones")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", help="tasks with this in their agent or environment")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (agent, env) in enumerate(TASKS if not args.run else []):
            if args.only and args.only not in f"{agent} {env}":
                continue
            run_dir = untrained(agent, env, Path(folder) / str(number))
            runs[f"{agent} cpu {env}"] = measure(run_dir, args.seconds)
            print(f"{agent} {env}", runs[f"{agent} cpu {env}"]["frames_per_second"], file=sys.stderr, flush=True)
        for run_dir in args.run or []:
            runs[run_dir.name] = measure(run_dir, args.seconds)
    document = {
        "unit": "dreamed moments a second that a client gets, of 60 that it asks for",
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        **surroundings(),
        "runs": runs,
    }
    write(document, args.out)


if __name__ == "__main__":
    main()
