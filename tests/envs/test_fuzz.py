"""Environments of random plans, with faults at random moments, against an independent loop over the plain one.

Bounded and deterministic. ``benchmarks/fuzz.py`` does the same with 500 and trains on each.
"""

from __future__ import annotations

from hypothesis import given, settings

from tests.envs.fuzz import check_checks, check_load, check_rows
from tests.envs.fuzzed import Plan, plans


@given(plans())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_environment_gives_right_rows_or_one_line(plan: Plan) -> None:
    check_rows(plan)


@given(plans())
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_any_environment_can_be_played_with_a_loaded_policy(plan: Plan) -> None:
    check_load(plan)


@given(plans())
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_any_environment_can_be_checked(plan: Plan) -> None:
    check_checks(plan)
