"""Limiter: exact pacing."""

from __future__ import annotations

import pytest

from reverie.data.limiter import Limiter


def test_batches_by_hand() -> None:
    # 4 trained rows per env_step, batches of 10 rows, 5 rows at first.
    limiter = Limiter(4.0, min_size=5)
    batches = []
    for _ in range(12):
        assert limiter.may_insert()
        limiter.inserted(1)
        count = 0
        while limiter.may_sample():
            assert not limiter.may_insert()
            limiter.sampled(10)
            count += 1
        batches.append(count)
    # debt: row 5 -> 0 -> one batch -> -10, -6, -2, 2 -> -8, -4, 0 -> -10, -6, -2
    assert batches == [0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("ratio", [0.1, 1 / 3, 0.123, 1 / 128, 2.5, 1024.0])
def test_no_drift(ratio: float) -> None:
    limiter = Limiter(ratio, min_size=7)
    trained = 0
    for _ in range(300):
        limiter.inserted(10)
        while limiter.may_sample():
            limiter.sampled(48)
            trained += 48
    earned = limiter.ratio * (3000 - 7)
    assert earned < trained <= earned + 48
    assert abs(float(limiter.ratio) - ratio) < 1e-12


def test_a_tenth_is_a_tenth() -> None:
    limiter = Limiter(0.1, min_size=0)
    limiter.sampled(1)
    for _ in range(9):
        limiter.inserted(1)
        assert not limiter.may_sample()
    limiter.inserted(1)
    assert limiter.may_sample()


def test_slack_lets_actors_run_ahead() -> None:
    limiter = Limiter(2.0, min_size=0, slack=6)
    inserted = 0
    while limiter.may_insert():
        limiter.inserted(1)
        inserted += 1
    assert inserted == 3
    assert limiter.may_sample()


def test_without_pacing_both_may_go_on() -> None:
    limiter = Limiter(None, min_size=2)
    assert not limiter.may_sample()
    limiter.inserted(2)
    limiter.sampled(1000)
    assert limiter.may_sample()
    assert limiter.may_insert()


def test_saved_and_restored() -> None:
    limiter = Limiter(1.5, min_size=1)
    limiter.inserted(9)
    limiter.sampled(5)
    twin = Limiter(1.5, min_size=1)
    twin.load_state_dict(limiter.state_dict())
    assert twin.debt() == limiter.debt() == 7


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_bad_ratios(ratio: float) -> None:
    with pytest.raises(ValueError, match="samples_per_insert"):
        Limiter(ratio, min_size=0)


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="got -1 and 0"):
        Limiter(1.0, min_size=-1)
