"""Faults of Gymnasium's vector environments: which stream it was, its own traceback, and workers that are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium import logger
from gymnasium.vector import AsyncVectorEnv

from reverie.envs.faults import RAISED, EnvFault, fault

Where = Callable[[int | None], str]
GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""what a pipe to a worker raises when nobody is at its other end"""


@contextmanager
def calling(env: gymnasium.vector.VectorEnv, where: Where) -> Iterator[None]:
    """Context in which what a vector environment raises becomes an `EnvFault`; where: it is called, given a stream."""
    level = logger.min_level
    if isinstance(env.unwrapped, AsyncVectorEnv):
        logger.min_level = logger.ERROR + 1  # the worker's traceback would be printed beside ours
    try:
        yield
    except EnvFault:
        raise
    except RAISED as error:
        raise _fault(env, where, error) from error
    except KeyboardInterrupt as error:
        # A worker that a terminal interrupted; the same key asks the run to end, which is not for here to decide.
        if not isinstance(env.unwrapped, AsyncVectorEnv) or _local(error, "_raise_if_errors", "index") is None:
            raise
        raise _fault(env, where, error) from error
    finally:
        logger.min_level = level


def end_workers(env: gymnasium.vector.VectorEnv) -> bool:
    """Whether workers of a vector environment were gone, and the others, which would wait for ever, have been ended."""
    source: Any = env.unwrapped
    if not isinstance(source, AsyncVectorEnv) or source.closed:
        return False
    gone = any(not worker.is_alive() for worker in source.processes)
    if not gone and not any(pipe is None for pipe in source.parent_pipes):
        return False
    for worker in source.processes:
        worker.terminate()
    for worker in source.processes:
        worker.join(5)
        worker.kill()
    source.closed = True
    return True


def _fault(env: gymnasium.vector.VectorEnv, where: Where, error: BaseException) -> EnvFault:
    if isinstance(error, GONE) and isinstance(env.unwrapped, AsyncVectorEnv):
        for number, worker in enumerate(env.unwrapped.processes):
            worker.join(0.2)
            if not worker.is_alive():
                code = worker.exitcode or 0
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                return EnvFault(f"{where(number)} found that its process has ended ({how})")
    index, trace = (_local(error, "_raise_if_errors", name) for name in ("index", "trace"))
    if index is None:
        index = _local(error, "step", "i")
    found = fault(where(index if isinstance(index, int) else None), error)
    return EnvFault(str(found), trace.rstrip("\n")) if isinstance(trace, str) else found


def _local(error: BaseException, function: str, name: str) -> Any:
    """A local variable of the innermost frame of that function of `gymnasium.vector` in a traceback, or None."""
    found, entry = None, error.__traceback__
    while entry is not None:
        code = entry.tb_frame.f_code
        if code.co_name == function and "gymnasium/vector/" in code.co_filename.replace("\\", "/"):
            found = entry.tb_frame.f_locals.get(name, found)
        entry = entry.tb_next
    return found
