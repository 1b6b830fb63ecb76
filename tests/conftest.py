"""What every test leaves as it was."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _numbers() -> Iterator[None]:
    """A run has its process take denormal ones for zero, and a GPU round factors; who comes next may want them."""
    yield
    torch.set_flush_denormal(False)
    torch.backends.cuda.matmul.allow_tf32 = False
