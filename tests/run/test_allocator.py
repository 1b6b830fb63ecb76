"""Freed memory is used again, the smallest numbers are zero, and a GPU's products are fast."""

import platform
import subprocess
import sys

import pytest
import torch

from reverie.run.allocator import prepare_process

# A tensor of 128 MiB, written and freed eight times: 32 768 pages each time that it is mapped anew.
SCRIPT = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    from reverie.run.allocator import keep_freed_memory
    assert keep_freed_memory()
torch.ones(1 << 25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for k in range(1, 9):
    torch.ones((1 << 25) - 4096 * k)  # smaller, so that it fits where the one before was, aligned as it may be
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that came in while the tensors were written."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_a_freed_tensor_is_not_faulted_in_again() -> None:
    assert faults("keep") < 1000 < faults("leave") / 4


TINY = """
import threading, torch
from reverie.run.allocator import prepare_process
tiny = torch.full((64,), 1e-30)
def product(): print(int((tiny * 1e-10).count_nonzero()))
product()
prepare_process(0)
product()
thread = threading.Thread(target=product)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot be told")
def test_numbers_too_small_to_matter_are_zero_here_and_in_new_threads() -> None:
    done = subprocess.run([sys.executable, "-c", TINY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["64", "0", "0"]


def test_a_run_lets_float32_products_on_a_gpu_round_to_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    factors = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    before = factors[0] @ factors[1]
    prepare_process(0)
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.equal(factors[0] @ factors[1], before)  # on the processor all stays as it was


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] < 8, reason="asks a GPU that has TF32"
)
def test_products_on_a_gpu_are_those_of_rounded_factors() -> None:
    prepare_process(0)
    factors = 1.0 + torch.full((2, 64, 64), 2.0**-12, device="cuda")  # a quarter of TF32's last bit
    exact = (factors[0].double() @ factors[1].double()).float()
    assert (factors[0] @ factors[1] - exact).abs().max() > 1e-3
