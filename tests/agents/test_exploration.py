"""Epsilon: the ladder's published numbers, annealing by hand, and what is refused."""

import pytest

from reverie.agents.agent import Seat
from reverie.agents.exploration import Exploration


def test_ladder_of_four_and_eight() -> None:
    ladder = Exploration(kind="ladder")
    assert ladder.epsilons(Seat(range(4), 4, 0)).tolist() == pytest.approx(
        [0.4, 0.047156, 0.005559, 0.000655], abs=1e-6
    )
    eight = [0.4, 0.16, 0.064, 0.0256, 0.01024, 0.004096, 0.001638, 0.000655]
    assert ladder.epsilons(Seat(range(8), 8, 10**9)).tolist() == pytest.approx(eight, abs=1e-6)


def test_a_single_stream_stands_on_the_first_rung() -> None:
    assert Exploration(kind="ladder").epsilons(Seat(range(1), 1, 7)).tolist() == pytest.approx([0.4])


def test_actors_share_one_ladder() -> None:
    """Streams 2 to 4 of eight, as a second actor of several would have them."""
    ladder = Exploration(kind="ladder")
    assert ladder.epsilons(Seat(range(2, 5), 8, 0)).tolist() == ladder.epsilons(Seat(range(8), 8, 0))[2:5].tolist()


def test_annealing() -> None:
    fall = Exploration(start=1.0, end=0.1, over=100, after=50)
    expected = {0: 1.0, 50: 1.0, 60: 0.91, 100: 0.55, 150: 0.1, 10**7: 0.1}
    for env_steps, epsilon in expected.items():
        assert fall.epsilons(Seat(range(2), 2, env_steps)).tolist() == pytest.approx([epsilon] * 2)
    assert Exploration(end=0.3, over=0).epsilons(Seat(range(1), 1, 0)).tolist() == pytest.approx([0.3])


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"base is a probability, got 1\.5"):
        Exploration(base=1.5)
    with pytest.raises(ValueError, match=r"over must be 0, a share of the run .* env_steps, got -1"):
        Exploration(over=-1)
