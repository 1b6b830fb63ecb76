"""Whether a run fits into memory: replay and batch before it begins, what is computed of a batch while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reverie.config import Config
from reverie.errors import UserError, notice
from reverie.machine import Memory, gpu_memory, in_words, memory

CPU = torch.device("cpu")
NONE_LEFT = "can't allocate memory"
"""What PyTorch's allocator of the processor says, in a RuntimeError of no class of its own."""


def lies_on_gpu(config: Config, device: torch.device) -> bool:
    """Whether the replay of a run with its learner on that device is in a GPU's memory."""
    return config.replay.store.place == "device" and device.type == "cuda"


def asked_memory(config: Config, rows: float, device: torch.device) -> float:
    """Bytes that the replay takes. rows: bytes of all rows of the run.

    On the host the memory is taken as rows come, so that a replay that the run does not fill asks for less than its
    budget; on a GPU all of it is taken at once.
    """
    budget = config.replay.store.budget
    return budget if lies_on_gpu(config, device) else min(budget, rows)


def check_memory(config: Config, rows: float, device: torch.device) -> None:
    """Raise UserError if the replay cannot fit, see `asked_memory`; say it if it does not now."""
    budget, on_gpu = config.replay.store.budget, lies_on_gpu(config, device)
    there, where = _memory_of(device if on_gpu else CPU)
    asked = asked_memory(config, rows, device)
    fix = f"--replay.store.budget {in_words(0.8 * there.available).replace(' ', '')} would fit"
    of = f"replay.store.budget is {in_words(budget)}"
    if not on_gpu and rows < budget:
        of += f", the run's rows come to {in_words(rows)}"
    if asked > (there.available if on_gpu else there.total):
        now = f", of which {in_words(there.available)} are free"
        raise UserError(f"the replay does not fit into {where}: {of}, there are {in_words(there.total)}{now}; {fix}")
    if asked > there.available:
        notice(f"the replay will not fit into what is free now of {where}, {in_words(there.available)}: {of}; {fix}")


def check_batch(config: Config, asked: int, device: torch.device) -> None:
    """Raise UserError if one batch cannot fit. asked: bytes of its rows, without anything that is made of them."""
    there, where = _memory_of(device)
    if asked > there.total:
        raise UserError(
            f"a batch of {config.replay.batch:,} windows takes {in_words(asked)}, which does not fit into {where}, "
            f"{in_words(there.total)}; make replay.batch smaller"
        )


def _memory_of(device: torch.device) -> tuple[Memory, str]:
    """The memory of a device, and what it is called."""
    on_gpu = device.type == "cuda"
    there = gpu_memory(str(device)) if on_gpu else memory()
    assert there is not None
    return there, f"the memory of {device}" if on_gpu else "this machine's memory"


@contextmanager
def networks_fit(config: Config, device: torch.device) -> Iterator[None]:
    """Context in which networks are made; memory that runs out is a UserError."""
    with _room(device, f"the networks of {config.name} do not fit into {{memory}}; make the agent's sizes smaller"):
        yield


@contextmanager
def learning_fits(config: Config, device: torch.device) -> Iterator[None]:
    """Context of learner_steps, in which memory that runs out is a UserError; what the run has saved stays."""
    also = " or run.precision bfloat16" if device.type == "cuda" and config.run.precision == "float32" else ""
    with _room(
        device,
        f"a learner_step does not fit into {{memory}}: what is computed from a batch of {config.replay.batch:,} "
        f"windows needs more than their rows; make replay.batch or the agent's networks smaller{also}. What the run "
        "has saved is kept",
    ):
        yield


@contextmanager
def _room(device: torch.device, message: str) -> Iterator[None]:
    """Context in which memory that runs out is a UserError with that message, in which ``{memory}`` is which one."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and NONE_LEFT not in str(error):
            raise
        there, where = _memory_of(device)
        raise UserError(message.format(memory=f"{where}, {in_words(there.total)}")) from error
