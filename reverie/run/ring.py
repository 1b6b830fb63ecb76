"""The connection between learners that share batches: sums and minima over their processes, and what parts it.

::

    Meeting   of the first process: an address where all come together, on loopback or on the cluster's network
    Ring      of each process: a group of torch.distributed, gloo on CPUs and nccl on GPUs; nothing global is touched

Where a process ends or says nothing for too long, all others get `Broken`, and close their ends.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from reverie.ops.world import World

LOOPBACK = "127.0.0.1"


class Broken(Exception):
    """Something that learners exchange did not come: one of them is gone, or says nothing."""


class Meeting:
    """Place where the processes of a ring find each other. host: address of this machine that they reach it by.

    Nothing but that address is listened at, from now on until `close`.
    """

    def __init__(self, host: str, patience: float) -> None:
        listener = socket.create_server((host, 0))
        self.address: tuple[str, int] = listener.getsockname()[:2]
        # Left to itself it would listen at all addresses of the machine.
        self.store: Any = dist.TCPStore(
            host_name=host,
            port=self.address[1],
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=patience),
            master_listen_fd=listener.detach(),
        )

    def close(self) -> None:
        """Listen no more."""
        self.store = None


class Ring(World):
    """One process's end. store: of the meeting. host: address of this machine that others reach it by.

    patience: seconds that others may take to come, or to answer. Raises Broken if they do not come.
    """

    def __init__(self, store: Any, rank: int, size: int, device: torch.device, host: str, patience: float) -> None:
        self.rank, self.size = rank, size
        make = _nccl if device.type == "cuda" else _gloo
        try:
            self.group: Any = make(store, rank, size, host, timedelta(seconds=patience))
        except (RuntimeError, ValueError) as error:
            raise Broken(first_line(error)) from error

    @classmethod
    def join(
        cls, address: tuple[str, int], rank: int, size: int, device: torch.device, host: str, patience: float
    ) -> Ring:
        """The end of a process that comes to the meeting of another one."""
        try:
            store = dist.TCPStore(*address, wait_for_workers=False, timeout=timedelta(seconds=patience))
        except RuntimeError as error:
            raise Broken(first_line(error)) from error
        return cls(store, rank, size, device, host, patience)

    def add(self, x: Tensor) -> None:
        """Replace x by its sum over all processes."""
        self._reduce(x, dist.ReduceOp.SUM)

    def least(self, x: Tensor) -> None:
        """Replace x by its minimum over all processes."""
        self._reduce(x, dist.ReduceOp.MIN)

    def collect(self, x: Tensor) -> list[Tensor]:
        """The x of all processes, by rank."""
        everyone = [torch.empty_like(x) for _ in range(self.size)]
        self._wait("allgather", [everyone], [x])
        return everyone

    def close(self) -> None:
        """Close this end: whoever waits for it gets `Broken`."""
        self.group = None

    def _reduce(self, x: Tensor, operation: Any) -> None:
        options = dist.AllreduceOptions()
        options.reduceOp = operation
        self._wait("allreduce", [x], options)

    def _wait(self, name: str, *arguments: Any) -> None:
        if self.group is None:
            raise Broken("the connection is closed")
        try:
            getattr(self.group, name)(*arguments).wait()
        except RuntimeError as error:
            raise Broken(first_line(error)) from error


def _gloo(store: Any, rank: int, size: int, host: str, patience: timedelta) -> Any:
    options: Any = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=host)]
    options._timeout, options._threads = patience, 1
    return dist.ProcessGroupGloo(store, rank, size, options)


def _nccl(store: Any, rank: int, size: int, host: str, patience: timedelta) -> Any:
    # Otherwise the host goes on at once, and a process that is gone is waited for on the device.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    if host == LOOPBACK:
        os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = patience
    return dist.ProcessGroupNCCL(store, rank, size, options)


def first_line(error: BaseException) -> str:
    """First line of what an error says, or its name."""
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
