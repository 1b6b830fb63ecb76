"""n-step targets in parts: by hand, and against the finished targets on random streams."""

import pytest
import torch

from reverie.ops.n_step import n_step
from reverie.ops.returns import n_step_returns

NAN = float("nan")


def column(values: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).unsqueeze(1)


def test_by_hand() -> None:
    """Rows 0 1 2 | 3 4 5: row 2 ends an episode; three steps at gamma 1/2."""
    reward = column([NAN, 1.0, 2.0, NAN, 4.0, 8.0])
    last = column([0, 0, 1, 0, 0, 0], torch.bool)
    for terminal, weight in ((False, 0.25), (True, 0.0)):
        ended = last & terminal
        parts = n_step(reward, last, ended, 0.5, 3, 5)
        assert parts.ahead[:, 0].tolist() == [2, 1, 0, 2, 1]
        assert parts.earned[[0, 1, 3, 4], 0].tolist() == [1 + 0.5 * 2, 2.0, 4 + 0.5 * 8, 8.0]
        assert parts.discount[[0, 1, 3, 4], 0].tolist() == [weight, 2 * weight, 0.25, 0.5]
        assert torch.isfinite(parts.earned).all()


def test_pick_takes_the_rows_to_bootstrap_from() -> None:
    last = column([0, 0, 1, 0, 0, 0], torch.bool)
    parts = n_step(torch.zeros(6, 1), last, last, 0.5, 3, 5)
    assert parts.pick(torch.arange(6).view(6, 1, 1) * 10)[:, 0, 0].tolist() == [20, 20, 20, 50, 50]


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize("rows", [1, 4, 9])
def test_parts_make_the_finished_targets(n: int, rows: int) -> None:
    g = torch.Generator().manual_seed(n)
    time, width = 10, 64
    reward, boot = torch.randn(time, width, generator=g), torch.randn(time, width, generator=g)
    last = torch.rand(time, width, generator=g) < 0.25
    terminal = last & (torch.rand(time, width, generator=g) < 0.5)
    parts = n_step(reward, last, terminal, 0.9, n, rows)
    whole = n_step_returns(reward, last, terminal, boot, 0.9, n)[:rows]
    made = parts.earned + parts.discount * parts.pick(boot)
    assert torch.allclose(torch.where(last[:rows], 0.0, made), whole, atol=1e-6)


@pytest.mark.parametrize("fewer", [1, 2, 4, 5])
def test_fewer_steps_are_those_of_a_smaller_n(fewer: int) -> None:
    g = torch.Generator().manual_seed(fewer)
    reward = torch.randn(10, 32, generator=g)
    last = torch.rand(10, 32, generator=g) < 0.3
    terminal = last & (torch.rand(10, 32, generator=g) < 0.5)
    found = n_step(reward, last, terminal, 0.9, 5, 7, torch.tensor(fewer))
    expected = n_step(reward, last, terminal, 0.9, fewer, 7)
    for name in ("earned", "discount", "ahead"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_arguments_are_checked() -> None:
    flags = torch.zeros(4, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="aligned"):
        n_step(torch.zeros(3, 2), flags, flags, 0.9, 1, 1)
    for n, rows in ((0, 1), (1, 0), (1, 4)):
        with pytest.raises(ValueError, match="expected n >= 1"):
            n_step(torch.zeros(4, 2), flags, flags, 0.9, n, rows)
