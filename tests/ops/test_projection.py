"""C51's projection: by hand, against the published loop, and as the row picture says at ends of both kinds."""

import math

import pytest
import torch

from reverie.ops.n_step import n_step
from reverie.ops.projection import atoms, categorical_projection

Z = atoms(-2.0, 2.0, 5)
P = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1])


def slow(probs: list[float], values: list[float], support: list[float]) -> list[float]:
    """Algorithm 1 of the paper, with the case of an atom that is hit exactly."""
    low, high, dz = support[0], support[-1], support[1] - support[0]
    mass = [0.0] * len(support)
    for p, x in zip(probs, values, strict=True):
        b = (min(max(x, low), high) - low) / dz
        below, above = math.floor(b), math.ceil(b)
        if below == above:
            mass[below] += p
        else:
            mass[below] += p * (above - b)
            mass[above] += p * (b - below)
    return mass


def test_by_hand() -> None:
    """r = 0.7 and gamma = 0.9 move the atoms to -1.1, -0.2, 0.7, 1.6, 2.5."""
    made = categorical_projection(P, 0.7 + 0.9 * Z, Z)
    assert made.tolist() == pytest.approx([0.01, 0.13, 0.28, 0.36, 0.22], abs=1e-6)
    ended = categorical_projection(P, 0.7 + 0.0 * Z, Z)
    assert ended.tolist() == pytest.approx([0.0, 0.0, 0.3, 0.7, 0.0], abs=1e-6)


def test_mass_on_an_atom_stays_whole() -> None:
    assert torch.equal(categorical_projection(P, Z, Z), P)
    for shift, expected in ((1.0, [0.0, 0.1, 0.2, 0.4, 0.3]), (-9.0, [1.0, 0.0, 0.0, 0.0, 0.0])):
        assert categorical_projection(P, Z + shift, Z).tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("count", [2, 11, 51])
def test_it_is_the_slow_loop(count: int) -> None:
    g = torch.Generator().manual_seed(count)
    support = torch.linspace(-10.0, 10.0, count, dtype=torch.float64)
    probs = torch.randn(40, count, generator=g, dtype=torch.float64).softmax(-1)
    earned = 6 * torch.randn(40, 1, generator=g, dtype=torch.float64)
    values = earned + torch.rand(40, 1, generator=g, dtype=torch.float64) * support
    made = categorical_projection(probs, values, support)
    for row in range(40):
        assert made[row].tolist() == pytest.approx(slow(probs[row].tolist(), values[row].tolist(), support.tolist()))
    assert made.sum(-1).tolist() == pytest.approx([1.0] * 40)
    inside = (values.abs() < 10).all(-1)
    assert inside.any()
    assert (made @ support)[inside].tolist() == pytest.approx((probs * values).sum(-1)[inside].tolist())


def test_rows_of_one_window_bootstrap_from_where_their_episode_ends() -> None:
    """Rows 0 1 2 | 3 4 5, three steps, gamma 1/2, rewards of 1 on arriving: row 2 ends an episode.

    All mass of p at z = 2: row 0 has 1 + 1/2 + 2/4 after a time limit and 1 + 1/2 after a true end; row 1 has
    1 + 2/2 and 1; row 3 is cut by the window, with 1 + 1/2 + 2/4 in both cases.
    """
    reward = torch.ones(6, 1)
    last = torch.tensor([0, 0, 1, 0, 0, 0], dtype=torch.bool).unsqueeze(1)
    p = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).expand(4, 1, 5)
    for terminal, expected in ((False, [2.0, 2.0, None, 2.0]), (True, [1.5, 1.0, None, 2.0])):
        steps = n_step(reward, last, last & terminal, 0.5, 3, 4)
        values = steps.earned.unsqueeze(-1) + steps.discount.unsqueeze(-1) * Z
        mean = categorical_projection(p, values, Z)[:, 0] @ Z
        for row, value in enumerate(expected):
            assert value is None or mean[row].item() == pytest.approx(value)


def test_half_precision_is_computed_in_full() -> None:
    assert categorical_projection(P.bfloat16(), Z.bfloat16(), Z).dtype == torch.float32


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="one shape"):
        categorical_projection(P, Z[1:], Z)
    for low, high, count in ((0.0, 1.0, 1), (1.0, 1.0, 5)):
        with pytest.raises(ValueError, match="at least 2 atoms"):
            atoms(low, high, count)
