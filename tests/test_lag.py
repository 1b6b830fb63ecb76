"""Actors that are exactly so many updates behind, as the comparison of IMPALA's corrections needs them."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.lag import CORRECTIONS, PAPER, Behind, configure
from reverie.overrides import apply


class Counted(nn.Module):
    """Stands for a policy: one number, which is its version."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("number", torch.zeros(()))
        self.number: Tensor


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_an_actor_has_the_parameters_of_so_many_updates_before(lag: int) -> None:
    leader, own = Counted(), Counted()
    behind = Behind(own, lag)  # type: ignore[arg-type]
    for version in (0, 0, 1, 2, 3, 3, 4, 5, 6, 7):
        leader.number.fill_(version)
        behind.follow(version, leader)  # type: ignore[arg-type]
        assert behind.version == max(version - lag, 0)
        assert float(own.number) == behind.version
        assert len(behind.kept) <= lag + 1
    assert behind.metrics(7) == {"parameter_age": lag}


def test_a_version_that_was_never_seen_is_told() -> None:
    behind = Behind(Counted(), 2)  # type: ignore[arg-type]
    behind.follow(0, Counted())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="between 0 and 2"):
        behind.follow(2, Counted())  # type: ignore[arg-type]


def test_runs_differ_in_the_correction_alone() -> None:
    assert set(PAPER) == set(CORRECTIONS)
    same = {repr(apply(configure(name, 3, 1000), {"agent.correction": "none"})) for name in CORRECTIONS}
    assert len(same) == 1
