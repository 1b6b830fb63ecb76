"""What a whole process is set up for: memory that is kept, numbers too small to matter, and products on a GPU.

Large tensors on a CPU keep their memory for the next update instead of giving it back each time: glibc maps every block
of more than 32 MiB (and gives it back when freed), so that each update of a learner faults its activations in again,
page by page. Blocks of up to 1 GiB come from the heap instead, which stays as large as it was. Larger ones, such as a
replay, are mapped as before.

Numbers below the smallest normal one (1e-38 in float32) are zero. A processor takes many times as long over them, and
moments of parameters without a gradient (of a unit that is dead, of a bin that is never met) end there for good: the
smallest of them times 0.9 rounds back to itself.

Products of float32 on a GPU round their factors to TF32, 10 bits of mantissa, as torch's convolutions there do by
default: its tensor cores take float32 in no other way. Sums stay float32. Nothing changes on a processor.
"""

from __future__ import annotations

import ctypes

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of options in glibc's malloc.h."""


def prepare_process(threads: int) -> None:
    """Set up the whole process for a run. threads: CPU threads of torch; 0: as they are.

    Denormal numbers are zero in the thread that calls this, and in those that are started later; threads that torch
    already has keep theirs.
    """
    keep_freed_memory()
    torch.set_flush_denormal(True)
    # torch's older way to say it: where its newer one was used, reading the older raises, and torch.compile reads it.
    torch.backends.cuda.matmul.allow_tf32 = True
    if threads:
        torch.set_num_threads(threads)


def keep_freed_memory() -> bool:
    """Tell the allocator, for the whole process. Returns whether it could be told: with glibc on Linux.

    Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no such function: macOS, musl, Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 1 << 30) and mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
