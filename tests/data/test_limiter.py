"""Limiter: exact pacing."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from reverie.data.limiter import Limiter


def test_batches_by_hand() -> None:
    # 4 trained rows per env_step, batches of 10 rows, 5 env_steps at first.
    limiter = Limiter(4.0, min_size=5)
    batches, sampled = [], 0
    for inserted in range(1, 13):
        assert limiter.may_insert(inserted - 1, sampled)
        count = 0
        while limiter.may_sample(inserted, sampled):
            assert not limiter.may_insert(inserted, sampled)
            sampled += 10
            count += 1
        batches.append(count)
    # debt: row 5 -> 0 -> one batch -> -10, -6, -2, 2 -> -8, -4, 0 -> -10, -6, -2
    assert batches == [0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0]


def test_what_is_owed_at_once_comes_on_top() -> None:
    # Three batches of pretraining at row 5, then as above; the ratio achieved leaves them out.
    limiter = Limiter(4.0, min_size=5, extra=30)
    batches, sampled = [], 0
    for inserted in range(1, 13):
        count = 0
        while limiter.may_sample(inserted, sampled):
            sampled += 10
            count += 1
        batches.append(count)
    assert batches == [0, 0, 0, 0, 4, 0, 0, 1, 0, 1, 0, 0]
    assert limiter.achieved(12, sampled) == 30 / 7
    assert limiter.achieved(5, 40) == limiter.achieved(3, 0) == 0.0
    assert limiter.achieved(6, 20) == 0.0


@pytest.mark.parametrize("ratio", [0.1, 1 / 3, 0.123, 1 / 128, 2.5, 1024.0])
def test_no_drift(ratio: float) -> None:
    limiter = Limiter(ratio, min_size=7)
    trained = 0
    for inserted in range(10, 3001, 10):
        while limiter.may_sample(inserted, trained):
            trained += 48
    earned = limiter.ratio * (3000 - 7)
    assert earned < trained <= earned + 48
    assert abs(float(limiter.ratio) - ratio) < 1e-12


def test_a_tenth_is_a_tenth() -> None:
    limiter = Limiter(0.1, min_size=0)
    assert not any(limiter.may_sample(inserted, 1) for inserted in range(10))
    assert limiter.may_sample(10, 1)


def test_slack_lets_actors_run_ahead() -> None:
    limiter = Limiter(2.0, min_size=0, slack=6)
    inserted = 0
    while limiter.may_insert(inserted, 0):
        inserted += 1
    assert inserted == 3
    assert limiter.may_sample(inserted, 0)


def test_without_pacing_both_may_go_on() -> None:
    limiter = Limiter(None, min_size=2)
    assert not limiter.may_sample(1, 0)
    assert limiter.may_sample(2, 1000)
    assert limiter.may_insert(2, 1000)
    assert limiter.debt(2, 1000) == 0


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_bad_ratios(ratio: float) -> None:
    with pytest.raises(ValueError, match="samples_per_insert"):
        Limiter(ratio, min_size=0)


@pytest.mark.parametrize("sizes", [{"min_size": -1}, {"min_size": 0, "slack": -1}, {"min_size": 0, "extra": -1}])
def test_bad_sizes(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"got .*-1"):
        Limiter(1.0, **sizes)


def test_another_ratio_takes_over_with_the_debt_that_is_open() -> None:
    """Under 4 rows per env_step from 5 on, 28 of 40 owed rows are sampled at 15; from there on 3 halves are owed."""
    old, new = Limiter(4.0, min_size=5), Limiter(1.5, min_size=5)
    assert old.debt(15, 28) == 4 * 10 - 28 == 12
    new.rebase(15, 28, old.debt(15, 28))
    assert new.debt(15, 28) == 12
    assert new.debt(19, 28) == 12 + 6
    assert new.debt(19, 46) == 0
    assert new.may_sample(19, 46)
    assert not new.may_sample(19, 47)
    assert new.achieved(19, 46) == pytest.approx((46 - 28 - 12) / 4)
    again = Limiter(1.5, min_size=5)
    again.load_state_dict(json.loads(json.dumps(new.state_dict())))
    assert [again.debt(19, n) for n in (40, 46)] == [6, 0]
    assert old.state_dict() is None


def test_a_later_start_is_waited_for_when_a_pacing_takes_over() -> None:
    new = Limiter(1.0, min_size=30)
    new.rebase(15, 28, Fraction(12))
    assert not new.may_sample(29, 28)
    assert (new.debt(30, 28), new.debt(34, 28)) == (12, 16)
