"""What every test leaves as it was."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """A run has its process take them for zero; who comes next may want them."""
    yield
    torch.set_flush_denormal(False)
