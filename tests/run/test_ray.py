"""The runner with many actors on Ray itself: the contract, a killed process, and what a run leaves behind."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from reverie.config import RayConfig
from reverie.run.cluster import connected
from reverie.run.learners import Learners
from reverie.run.sharded_store import ShardedStore
from tests.agents.shared import assert_same
from tests.contracts.test_counting import SPECS
from tests.run import test_asynchronous as workers
from tests.run import test_learners as learners
from tests.run.test_distributed import ACTORS, Recorder, config_of
from tests.run.test_sharded import check_after_loss

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    with connected(RayConfig(ACTORS, learners=2)) as ray:
        yield ray


def processes(word: str) -> dict[int, str]:
    """Processes whose command line has that word, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found[int(path.parent.name)] = line
    return found


def listening(pids: set[int]) -> set[str]:
    """Addresses, as the kernel writes them, at which these processes listen for connections."""
    return {address for address, _ in listeners(pids)}


def listeners(pids: set[int]) -> set[tuple[str, str]]:
    """Addresses and ports."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                address, _, port = words[1].partition(":")
                sockets[f"socket:[{words[9]}]"] = address, port
    found = set[tuple[str, str]]()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found |= {sockets[socket]} if (socket := os.readlink(link)) in sockets else set()
            except OSError:
                continue
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("inference", "env_steps"), [("actor", 500), ("central", 1500)])
def test_every_row_once_and_in_order_though_an_actor_is_killed(
    ray: ModuleType, tmp_path: Path, inference: str, env_steps: int
) -> None:
    """And nothing listens beyond loopback meanwhile."""
    config = config_of(SPECS[1], inference)
    config = replace(config, run=replace(config.run, env_steps=env_steps))
    recorder = Recorder(config, tmp_path, ray)  # type: ignore[arg-type]
    fleet, addresses, killed = recorder.runner.fleet, set[str](), list[int]()

    def kill() -> None:
        while not (fleet.members[1].pid and fleet.members[1].env_steps):
            time.sleep(0.01)
        session = ray._private.worker._global_node.get_session_dir_path()
        addresses.update(listening(set(processes(session)) | {fleet.members[0].pid, os.getpid()}))
        killed.append(fleet.members[1].pid)
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    recorder.train()
    thread.join()
    recorder.check(tmp_path)
    assert fleet.members[1].restarts == 1
    assert len(recorder.lines) == 1
    assert "actor 1 (life 1) was lost" in recorder.lines[0]
    assert addresses
    assert addresses <= LOCAL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_every_row_once_and_in_order_though_a_shard_is_killed(ray: ModuleType, tmp_path: Path) -> None:
    """Its rows since the checkpoint are lost and said; nothing hangs, listens beyond loopback, or stays behind."""
    recorder = Recorder(config_of(SPECS[1], shards=2), tmp_path, ray)  # type: ignore[arg-type]
    store, addresses, pids = recorder.runner.store, set[str](), set[int]()
    assert isinstance(store, ShardedStore)
    store._say = recorder.lines.append

    def kill() -> None:
        while not list((tmp_path / "checkpoints").glob("[0-9]*")):
            time.sleep(0.01)
        pids.update(process.tally.pid for process in store.shards.each if process.tally)
        addresses.update(listening(pids))
        os.kill(min(pids), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    recorder.train()
    thread.join()
    check_after_loss(recorder, tmp_path)
    lost = [line for line in recorder.lines if line.startswith("reverie: shard")]
    assert len(lost) == store.shards.restarts == 1
    assert "its new life has what the newest checkpoint has" in lost[0]
    assert len(pids) == 2
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    pids.update(process.tally.pid for process in store.shards.each if process.tally)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_gradient_once_though_a_worker_is_killed(ray: ModuleType, tmp_path: Path) -> None:
    """Rows are right in all batches, so that no window joins two episodes; the worker's next life counts anew."""
    config = workers.config_of(silence=300.0)  # a busy machine takes its time to begin a life
    run = replace(config.run, env_steps=100_000, checkpoint_every=0)
    recorder = workers.Recorder(replace(config, run=run), tmp_path, ray)
    fleet = recorder.runner.fleet

    def kill() -> None:
        while not (fleet.members[1].pid and fleet.members[1].env_steps):
            time.sleep(0.01)
        os.kill(fleet.members[1].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    recorder.train(enough=lambda: any(gradients.incarnation == 2 for gradients in recorder.applied))
    thread.join()
    recorder.check()
    assert fleet.members[1].restarts == 1
    assert len(recorder.lines) == 1
    assert "actor 1 (life 1) was lost" in recorder.lines[0]
    assert {gradients.incarnation for gradients in recorder.applied if gradients.actor == 1} == {1, 2}


LOCAL = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1 in IPv4, and as IPv4 mapped into IPv6, little endian, and ::1"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_learners_are_one_though_the_second_is_killed(ray: ModuleType, tmp_path: Path) -> None:
    """They listen on loopback only, end as the same, bit for bit, and nobody listens afterwards; one goes on alone."""
    config, before = learners.config_of(**{"ray.patience": 120.0}), listeners({os.getpid()})
    runner = Learners(config, tmp_path, ray)
    killed, addresses, states = list[int](), set[str](), list[object]()
    update, end = runner.update, runner.end

    def counted(batch: object) -> object:
        result = update(batch)  # type: ignore[arg-type]
        other = runner.team.others[0]  # type: ignore[union-attr]
        if runner.learner.learner_steps == 3:
            addresses.update(listening({os.getpid(), other.pid}))
            killed.append(other.pid)
            os.kill(other.pid, signal.SIGKILL)
        return result

    def ended() -> None:
        states.append(ray.get(runner.team.others[0].handle.state.remote()))  # type: ignore[union-attr]
        states.append(copy.deepcopy(runner.learner.save()))
        end()

    runner.trainer.update = counted  # type: ignore[attr-defined, assignment]
    runner.end = ended  # type: ignore[method-assign]
    runner.train(learners.Never())
    assert runner.run.finished
    assert len(killed) == 1
    assert_same(*states, 0.0)
    assert addresses
    assert addresses <= LOCAL
    assert listeners({os.getpid()}) <= before
    said = (tmp_path / "incidents.log").read_text().strip().splitlines()
    assert len(said) == 1
    assert "learner 1 was lost" in said[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_terminated_command_saves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", Path("/tmp") / f"rv{os.getpid()}"
    home.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-m", "reverie.cli", "train", "dqn", "--env", "toy/catch", "--actors", "2"]
    command += ["--ray.shards", "2"]
    command += ["--logdir", str(tmp_path / "run"), "--env_steps", "100000", "--run.prefill", "100"]
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_AUTH_TOKEN", None)
    try:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            metrics = tmp_path / "run" / "metrics.jsonl"
            deadline = time.monotonic() + 240
            while not (metrics.exists() and metrics.stat().st_size) and run.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            run.send_signal(signal.SIGTERM)
            output, _ = run.communicate(timeout=60)
        assert run.returncode == 0, output.decode()
        assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*")), output.decode()
        assert not list(home.iterdir())
        assert not list(temporary.glob("reverie-*"))
        left = processes(str(temporary))
        assert not left
    finally:
        for pid in processes(str(temporary)):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(temporary)
