"""Connection to Ray, the engine of runs with many actors: a private cluster of this machine, or one that is named.

A private cluster listens on loopback only, keeps its files in a folder of its own, which goes with it, and asks for a
secret that nobody else has. It is never joined by accident, nor is any other: an address is the user's own choice.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from reverie.config import RayConfig
from reverie.errors import UserError

LOCAL = "local"
"""the address that means a private cluster"""
LONGEST = 20
"""characters of a folder's name in which Ray can make sockets: of their 107 it needs some 84 itself"""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""variable that, set to 0, binds every server of a cluster to loopback; on Linux too, despite its name"""


def import_ray(private: bool) -> ModuleType:
    """Ray, told before it starts how it shall behave. Raises UserError if it is not installed.

    private: for a cluster of this machine alone.
    """
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    if private:
        settings |= {
            LOOPBACK: "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            # Actors share the processors with the learner as equals; 15 would starve them.
            "RAY_worker_niceness": "0",
        }
    imported = sys.modules.get("ray")
    if imported is None:
        os.environ.update(settings)
    elif private and os.environ.get(LOOPBACK) != "0" and not imported.is_initialized():
        raise UserError(
            f"ray was imported before it could be told to listen on loopback only: set {LOOPBACK}=0 before it is "
            "imported, or connect it yourself with ray.init"
        )
    try:
        import ray
    except ImportError as error:
        raise UserError("runs with actors need Ray: pip install 'reverie-rl[ray]'") from error
    module: ModuleType = ray
    return module


def _short() -> str | None:
    """Where a cluster's files go if the usual place has so long a name that none of its sockets fits; None: there."""
    return "/tmp" if len(tempfile.gettempdir()) > LONGEST and Path("/tmp").is_dir() else None


@contextmanager
def connected(options: RayConfig) -> Iterator[ModuleType]:
    """Context in which Ray is connected; a private cluster ends with it. A connection that is there is used as it is.

    Raises UserError if Ray is missing, or if there is no cluster at the address.
    """
    private = options.address == LOCAL
    ray = import_ray(private)
    if ray.is_initialized():
        yield ray
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    folder = tempfile.mkdtemp(prefix="reverie-", dir=_short()) if private else None
    try:
        common = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        if private:
            cores = max(os.cpu_count() or 1, (options.actors + options.learners - 1) * options.threads)
            ray.init(LOCAL, num_cpus=cores, object_store_memory=options.memory, _temp_dir=folder, **common)
        else:
            ray.init(options.address, **{name: value for name, value in common.items() if name != "include_dashboard"})
    except Exception as error:  # its own are of any kind
        ray.shutdown()
        shutil.rmtree(folder or "", ignore_errors=True)
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot connect to Ray at {options.address!r}: {line}") from error
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # it has put its own in their place
    except ValueError:  # not the main thread
        pass
    try:
        yield ray
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
