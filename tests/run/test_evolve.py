"""Decisions of a population against tables worked by hand: who copies whom, and what becomes of the rates."""

from __future__ import annotations

import math

import pytest

from reverie.config import PopulationConfig
from reverie.run.evolve import decide, explore, first_values
from reverie.run.fitness import fitness


class Script:
    """Draws what it is told to, and nothing more."""

    def __init__(self, *draws: float) -> None:
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)

    def integers(self, high: int) -> int:
        drawn = int(self.draws.pop(0))
        assert 0 <= drawn < high
        return drawn


VALUES = [{"lr": 1.0, "entropy": 10.0}, {"lr": 2.0, "entropy": 20.0}, {"lr": 3.0, "entropy": 30.0}, {"lr": 4.0}]
STAYS = [0.9]
UP, DOWN = [0.1, 0.2], [0.1, 0.7]


def test_a_tournament_by_hand() -> None:
    """Fitnesses 10, 16, 14, unready; a margin of 5.

    ======  =======  =====  ================  ======  ===========================================
    member  fitness  rival  better by         copies  changes
    ======  =======  =====  ================  ======  ===========================================
    0       10       1      6 > 5             1       lr 2 * 1.2, entropy 20 / 1.2
    1       16       2      -2                no      lr stays, entropy 20 * 1.2
    2       14       1      2 < 5             no      lr 3 / 1.2, entropy stays
    3       none     none                     no      none: it has not ended enough episodes
    ======  =======  =====  ================  ======  ===========================================

    Rivals are numbers among the others that are ready: of 0 these are 1 and 2, of 1 they are 0 and 2, of 2 0 and 1.
    """
    draws = Script(0, 1, 1, *UP, *DOWN, *STAYS, *UP, *DOWN, *STAYS)
    options = PopulationConfig(size=4, margin=5.0)
    made = decide(7, [70, 71, 72, 73], [10.0, 16.0, 14.0, None], VALUES, options, draws)
    assert not draws.draws
    assert [decision.rival for decision in made] == [1, 2, 1, None]
    assert [decision.copied_from for decision in made] == [1, None, None, None]
    assert made[0].after == {"lr": pytest.approx(2.4), "entropy": pytest.approx(20 / 1.2)}
    assert made[1].after == {"lr": 2.0, "entropy": pytest.approx(24.0)}
    assert made[2].after == {"lr": pytest.approx(2.5), "entropy": 30.0}
    assert made[3].after == made[3].before == {"lr": 4.0}
    assert made[0].before == VALUES[0]
    assert (made[0].round, made[2].env_steps, made[0].fitness, made[0].rival_fitness) == (7, 72, 10.0, 16.0)


def test_all_copy_what_others_were_before() -> None:
    """0 copies 1 while 1 copies 2: 0 has the old values of 1."""
    made = decide(
        1, [0] * 3, [1.0, 2.0, 3.0], VALUES[:3], PopulationConfig(size=3, chance=0.0), Script(0, 1, 0, *[0.5] * 6)
    )
    assert [decision.copied_from for decision in made] == [1, 2, None]
    assert [decision.after for decision in made] == [VALUES[1], VALUES[2], VALUES[2]]


def test_a_truncation_by_hand() -> None:
    """Ten members with fitnesses 0 to 9, a share of 0.2: 0 and 1 copy one of 8 and 9; nobody else changes."""
    options = PopulationConfig(size=10, exploit="truncation", share=0.2, explore="copied", chance=1.0)
    values = [{"lr": float(k + 1)} for k in range(10)]
    draws = Script(1, 0, *[0.0, 0.9], *[0.0, 0.1])
    made = decide(1, [0] * 10, [float(k) for k in range(10)], values, options, draws)
    assert not draws.draws
    assert [decision.copied_from for decision in made] == [9, 8, *[None] * 8]
    assert made[0].after == {"lr": pytest.approx(10 / 1.2)}
    assert made[1].after == {"lr": pytest.approx(9 * 1.2)}
    assert all(decision.after == decision.before for decision in made[2:])


def test_a_member_whose_scores_are_no_numbers_is_below_all() -> None:
    nan = float("nan")
    options = PopulationConfig(size=3, exploit="truncation", share=0.34, chance=0.0)
    made = decide(1, [0] * 3, [3.0, nan, 1.0], VALUES[:3], options, Script(0, *[0.5] * 6))
    assert [decision.copied_from for decision in made] == [None, 0, None]
    made = decide(1, [0] * 2, [nan, 1.0], VALUES[:2], PopulationConfig(size=2, chance=0.0), Script(0, 0, *[0.5] * 4))
    assert [decision.copied_from for decision in made] == [1, None]


def test_few_are_truncated_too_but_never_all() -> None:
    """Of two members one is the worst; equals do not copy each other; one alone has nobody to copy."""
    options = PopulationConfig(size=2, exploit="truncation", chance=0.0)
    assert [d.copied_from for d in decide(1, [0, 0], [2.0, 1.0], VALUES[:2], options, Script(0, *[0.5] * 4))] == [
        None,
        0,
    ]
    assert [d.copied_from for d in decide(1, [0, 0], [1.0, 1.0], VALUES[:2], options, Script(0, *[0.5] * 4))] == [
        None,
        None,
    ]
    for exploit in ("truncation", "tournament"):
        options = PopulationConfig(size=2, exploit=exploit, chance=0.0)  # type: ignore[arg-type]
        made = decide(1, [0, 0], [None, 1.0], VALUES[:2], options, Script(*[0.5] * 4))
        assert [d.copied_from for d in made] == [None, None]


def test_up_and_down_cancel() -> None:
    """1.2 and 1 / 1.2: no drift of the logarithm, unlike 1.2 and 0.8."""
    options = PopulationConfig(size=2)
    once = explore({"lr": 5.0}, options, Script(*UP))
    assert explore(once, options, Script(*DOWN)) == {"lr": pytest.approx(5.0)}


def test_where_members_begin() -> None:
    """A range by its logarithm: half of the way from 1e-4 to 1e-2 is 1e-3; and one of four values."""
    drawn = first_values({"lr": [1e-4, 1e-2], "eps": [0.1, 1e-3, 1e-5, 1e-7]}, Script(0.5, 2))
    assert drawn == {"lr": pytest.approx(math.exp((math.log(1e-4) + math.log(1e-2)) / 2)), "eps": 1e-5}
    assert drawn["lr"] == pytest.approx(1e-3)


def test_fitness_by_hand() -> None:
    lines = [{"episode/score": 1.0}, {"eval/score": 99.0}, {"episode/score": 4.0}]
    assert fitness("toy/catch", lines, 2) == 2.5
    assert fitness("toy/catch", lines, 3) is None
    games = [{"episode/score": 1.0}, {"episode/score": 2.0, "episode/game_return": 3.0}]
    assert fitness("ALE/Pong-v5", games, 1) == 3.0  # a whole game, not its lives


def test_fitness_of_several_tasks_by_hand() -> None:
    """Means of the tasks' means; of Atari in percent of the human's, cut off at 100.

    Pong: random -20.7, human 14.6 (35.3 between them); a score of -3.05 is 50 %. Breakout: 1.7 and 30.5; 400 is capped.
    """
    lines = [{"episode/score": s, f"task/{t}/score": s} for t, s in (("a", 1.0), ("b", 10.0), ("b", 30.0))]
    assert fitness("a,b", lines, 3) == pytest.approx((1.0 + 20.0) / 2)
    assert fitness("a,b,c", lines, 1) is None
    lines = [{"episode/score": s, f"task/ALE_{t}-v5/score": s} for t, s in (("Pong", -3.05), ("Breakout", 400.0))]
    assert fitness("ALE/Pong-v5,ALE/Breakout-v5", lines, 2) == pytest.approx((50.0 + 100.0) / 2)


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 1},
        {"size": -1},
        {"every": 0},
        {"every": 1.5},
        {"share": 0.6},
        {"chance": 2.0},
        {"factor": 1.0},
        {"margin": -1.0},
        {"episodes": 0},
        {"vary": {"agent.opt.lr": [1e-3]}},
        {"vary": {"agent.opt.lr": [0.0, 1.0]}},
        {"vary": {"agent.opt.lr": 1.0}},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        PopulationConfig(**bad)  # type: ignore[arg-type]


def test_keys_may_be_nested() -> None:
    given = {"agent": {"opt": {"lr": [1e-5, 1e-2]}}, "agent.entropy": [0.1, 0.2]}
    assert PopulationConfig(vary=given).vary == {"agent.opt.lr": [1e-5, 1e-2], "agent.entropy": [0.1, 0.2]}
