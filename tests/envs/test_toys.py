"""Toys: exact scores by enumerating every play, rules by hand, seeds and resumption of in-process vectors."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.envs.background import Plaids
from reverie.envs.catch import Catch, NoisyCatch, ball_columns
from reverie.envs.env import ResumeError
from reverie.envs.make import env_names, make_env, protocols
from reverie.envs.maze import Maze
from reverie.envs.resume import ActionLog, compact_dtype, episode_seed
from reverie.envs.toys import Count, TMaze
from reverie.envs.vector import SyncVector
from reverie.errors import UserError


def find(env: gymnasium.Env, image: np.ndarray, cells: int) -> tuple[list[int], list[int]]:
    """Columns that are white on any line above the last, and on the last line, read from the picture."""
    edges = np.arange(cells + 1) * len(image) // cells
    white = np.array([[(image[a, b] == 255).all() for b in edges[:-1]] for a in edges[:-1]])
    return np.flatnonzero(white[:-1].any(0)).tolist(), np.flatnonzero(white[-1]).tolist()


@pytest.mark.parametrize(
    "make", [lambda: Catch(size=20, cells=5), lambda: NoisyCatch(size=20, cells=5, ball=None, dense=0.0)]
)
def test_catch_is_solved_from_its_pictures(make: Any) -> None:
    env = make()
    returns = []
    for seed in range(20):
        image, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            ball, paddle = find(env, image, 5)
            image, reward, over, truncated, _ = env.step(1 + np.sign(ball[0] - paddle[0]))
            assert not truncated
            total += reward
        returns.append(total)
    assert set(returns) == {env.optimal_score} == {1.0}


def test_a_small_ball_is_in_the_middle_of_its_cell() -> None:
    env = Catch(size=22, cells=5, ball=2)  # cells of 4, 4, 5, 4 and 5 pixels
    for seed in range(10):
        image, _ = env.reset(seed=seed)
        top, left = 1, [1, 5, 9, 14, 18][env._column]
        wanted = np.zeros_like(image)
        wanted[top : top + 2, left : left + 2] = wanted[18:20, 9:11] = 255
        np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize(("size", "ball"), [(32, None), (22, 1), (22, 2), (23, 2), (24, 3)])
def test_columns_of_balls_are_read_from_first_pictures(size: int, ball: int | None) -> None:
    env = Catch(size=size, cells=5, ball=ball)
    images, columns = [], []
    for seed in range(30):
        images.append(env.reset(seed=seed)[0])
        columns.append(env._column)
    assert set(columns) == set(range(5))
    assert ball_columns(np.stack(images).reshape(3, 10, size, size, 1), 5).flatten().tolist() == columns


def test_random_catch_scores_exactly_what_it_says() -> None:
    env = Catch(size=8, cells=4)
    total = {}
    for seed in range(60):
        env.reset(seed=seed)
        column = env._column
        if column in total:
            continue
        scores = []
        for actions in itertools.product(range(3), repeat=3):
            env.reset(seed=seed)
            scores.append(sum(env.step(np.int64(a))[1] for a in actions))
        total[column] = np.mean(scores)
    # Columns are uniform, actions too: the mean over all plays is the random score.
    assert sorted(total) == [0, 1, 2, 3]
    assert np.mean(list(total.values())) == pytest.approx(env.random_score) == pytest.approx(-0.5)


def test_the_background_moves_fills_the_frame_and_depends_on_the_seed() -> None:
    env = NoisyCatch()
    first, _ = env.reset(seed=1)
    second = env.step(np.int64(1))[0]
    again, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    np.testing.assert_array_equal(first, again)
    assert (first != second).mean() > 0.5
    assert (first != other).mean() > 0.5
    # Only ball and paddle are white: 2 x 2 pixels each; or two of 64 cells.
    assert (first == 255).all(-1).sum() == 8
    assert (NoisyCatch(ball=None).reset(seed=1)[0] == 255).all(-1).mean() == 2 / 64
    plain, _ = NoisyCatch(strength=0.0).reset(seed=1)
    assert set(np.unique(plain)) == {0, 255}


def test_continuous_catch_moves_by_the_third_that_an_action_lies_in() -> None:
    for twin in (Catch, NoisyCatch):
        env, plain = twin(continuous=True), twin()
        assert (env.action_space, env.action_names) == (spaces.Box(-1.0, 1.0, (1,), np.float32), ())
        assert (env.random_score, env.optimal_score) == (plain.random_score, plain.optimal_score)
        thirds = {-1.0: 0, -0.34: 0, -0.33: 1, 0.0: 1, 0.33: 1, 0.34: 2, 1.0: 2}
        np.testing.assert_array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
        for action, index in thirds.items():
            mine, theirs = env.step(np.array([action], np.float32)), plain.step(np.int64(index))
            np.testing.assert_array_equal(mine[0], theirs[0])
            assert mine[1:] == theirs[1:]


def test_noisy_catch_pays_for_nearness_and_knows_its_scores() -> None:
    env = NoisyCatch(size=16, cells=4, dense=6.0)  # 6 (1 - 2 d / 3) = 6, 2, -2, -6
    best: dict[int, float] = {}
    total: dict[int, float] = {}
    for seed in range(60):
        env.reset(seed=seed)
        column = env._column
        if column in total:
            continue
        returns = []
        for actions in itertools.product(range(3), repeat=3):
            env.reset(seed=seed)
            paddle, score = 2, 0.0
            for t, action in enumerate(actions):
                paddle = min(max(paddle + action - 1, 0), 3)
                _, reward, over, _, info = env.step(np.int64(action))
                assert reward == pytest.approx([6.0, 2.0, -2.0, -6.0][abs(paddle - column)])
                assert info == ({"episode_info": {"success": float(paddle == column)}} if t == 2 else {})
                assert over == (t == 2)
                score += reward
            returns.append(score)
        total[column], best[column] = float(np.mean(returns)), max(returns)
    assert sorted(total) == [0, 1, 2, 3]
    assert np.mean(list(total.values())) == pytest.approx(env.random_score) == pytest.approx(6 * 47 / 81)
    assert np.mean(list(best.values())) == pytest.approx(env.optimal_score) == pytest.approx(17.0)
    plain = NoisyCatch(dense=0.0)
    assert (plain.random_score, plain.optimal_score) == (-0.75, 1.0)
    assert (NoisyCatch().random_score, NoisyCatch().optimal_score) == pytest.approx((7.205369, 19.5))


def test_plaids_are_their_formula() -> None:
    plaids = Plaids(np.random.default_rng(3), 6, 5, waves=2)
    rng = np.random.default_rng(3)
    u, v = rng.uniform(-4.0, 4.0, (2, 3, 2))
    w, phase = rng.uniform(-0.15, 0.15, (3, 2)), rng.uniform(0.0, 1.0, (3, 2))
    for y, x, c in itertools.product(range(6), range(5), range(3)):
        angle = 2 * np.pi * (u[c] * x / 5 + v[c] * y / 6 + w[c] * 7 + phase[c])
        assert plaids.frame(7)[y, x, c] == pytest.approx(255 * (0.5 + np.sin(angle).sum() / 4))


@pytest.mark.parametrize("pixels", [False, True])
def test_tmaze_shows_its_cue_once_and_pays_for_remembering(pixels: bool) -> None:
    env = TMaze(length=3, pixels=pixels)
    cues: dict[int, set[bytes]] = {0: set(), 1: set()}
    rest: dict[int, set[bytes]] = {0: set(), 1: set()}
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        cue = env._cue
        cues[cue].add(observation.tobytes())
        right = seed % 4 < 2
        for t in range(4):
            observation, reward, over, truncated, info = env.step(np.int64(cue if right else 1 - cue))
            rest[cue].add(observation.tobytes())
            assert (reward, over, truncated) == ((1.0 if right else -1.0) if t == 3 else 0.0, t == 3, False)
            assert info == ({"episode_info": {"success": float(right)}} if t == 3 else {})
    assert len(cues[0]) == len(cues[1]) == 1
    assert cues[0] != cues[1]
    # After the first row nothing tells the two cues apart.
    assert rest[0] == rest[1]
    assert (env.random_score, env.optimal_score) == (0.0, 1.0)


@pytest.mark.parametrize("pixels", [False, True])
def test_tmaze_waits_before_its_cue(pixels: bool) -> None:
    """0..2 rows of plain corridor, equally often; from the cue on it is the maze without them."""
    env, plain = TMaze(length=3, pixels=pixels, wait=2), TMaze(length=3, pixels=pixels)
    waits = []
    for seed in range(300):
        seen, over = [env.reset(seed=seed)[0]], False
        while not over:
            observation, reward, over, _, info = env.step(np.int64(env._cue))
            assert reward == float(over)
            seen.append(observation)
        assert info == {"episode_info": {"success": 1.0}}
        waits.append(len(seen) - 5)
        plain.reset(seed=seed)
        assert plain._cue == env._cue
        plain._place = -1
        before = plain._observe()
        assert all(np.array_equal(row, before) for row in seen[: waits[-1]])
        for row in seen[waits[-1] :]:
            assert env.observation_space.contains(row)
            observation = plain.step(np.int64(0))[0]
            np.testing.assert_array_equal(row, observation)
    assert np.bincount(waits) == pytest.approx([100, 100, 100], abs=25)  # 3 sigma


@pytest.mark.parametrize("pixels", [False, True])
def test_a_reversed_junction_asks_for_the_other_way(pixels: bool) -> None:
    """It says so at the junction alone, half of the time, whatever the cue; leaning by the cue alone earns nothing."""
    env = TMaze(length=2, pixels=pixels, size=12, reverse=True)
    asked, scores = np.zeros((2, 2)), []
    for seed in range(400):
        rows = [env.reset(seed=seed)[0]]
        for _ in range(2):
            rows.append(env.step(np.int64(0))[0])
        assert all(env.observation_space.contains(row) for row in rows)
        junction = rows[-1][2] if not pixels else {160: 1, 112: -1}[int(rows[-1][0, -1, 0])]
        reversed_ = int(junction == -1)
        asked[env._cue, reversed_] += 1
        right = 1 - env._cue if reversed_ else env._cue
        action = env._cue if seed % 2 else right
        _, reward, over, _, info = env.step(np.int64(action))
        assert over
        assert info["episode_info"]["success"] == (action == right) == (reward + 1) / 2
        if seed % 2:
            scores.append(reward)
    assert asked.min() > 75  # of 100 each; 3 sigma is 26
    assert abs(np.mean(scores)) < 0.2


def test_tmaze_distractors_tell_nothing_of_the_cue() -> None:
    plain, noisy = TMaze(length=3), TMaze(length=3, noise=2)
    assert noisy.observation_space == spaces.Box(np.float32([0, 0, 0, -1, -1]), 1.0, dtype=np.float32)
    distractors = []
    for seed in range(300):
        quiet, loud = plain.reset(seed=seed)[0], noisy.reset(seed=seed)[0]
        for t in range(5):
            assert noisy.observation_space.contains(loud)
            np.testing.assert_array_equal(loud[:3], quiet)
            distractors.append([1.0 - 2.0 * plain._cue, *loud[3:]])
            if t < 4:
                quiet, loud = plain.step(np.int64(0))[0], noisy.step(np.int64(0))[0]
    # Uniform on [-1, 1]: variance 1/3. Uncorrelated with the cue and with each other; 1500 rows, so 4 sigma is 0.1.
    assert np.var(distractors, 0)[1:] == pytest.approx([1 / 3, 1 / 3], abs=0.03)
    assert np.corrcoef(distractors, rowvar=False) == pytest.approx(np.eye(3), abs=0.1)
    assert len({row[1] for row in distractors}) == 1500


@pytest.mark.parametrize("size", [11, 16, 33, 44, 84])
def test_catch_of_eleven_cells_has_any_size_from_eleven_on(size: int) -> None:
    env = Catch(size=size, cells=11)
    for seed in range(30):
        image, _ = env.reset(seed=seed)
        assert image.shape == (size, size, 1)
        reward, over = 0.0, False
        while not over:
            ball, paddle = find(env, image, 11)
            assert (len(ball), len(paddle)) == (1, 1)
            assert ((size // 11) ** 2) * 2 <= (image == 255).sum() <= ((size // 11 + 1) ** 2) * 2
            image, reward, over, _, _ = env.step(1 + np.sign(ball[0] - paddle[0]))
        assert reward == 1.0


def test_the_maze_is_a_corridor_that_can_be_read_from_its_pictures() -> None:
    env = Maze(size=11, cells=5, length=20, goal=-2)
    assert [env.path[i] for i in (0, 4, 5, 6, 10, 11, 12, 16)] == [
        (0, 0), (0, 4), (1, 4), (2, 4), (2, 0), (3, 0), (4, 0), (4, 4),
    ]  # fmt: skip
    assert (len(env.path), env.goal) == (17, 15)
    image, _ = env.reset(seed=0)
    assert (image[0:2, 0:2] == 255).all()
    assert (image[2:4, 0:8] == 96).all()  # the wall below the first line, as far as the opening
    assert (image == 0).sum() == 11 * 11 - 4 - (image == 96).sum()
    right, down, left, up = 3, 1, 2, 0
    plan = [up, left, *[right] * 4, *[down] * 2, *[left] * 4, *[down] * 2, *[right] * 3, *[down] * 3]
    walked, rewards = [], []
    for action in plan:
        image, reward, terminated, truncated, info = env.step(action)
        walked.append(int(env.places(image)))
        rewards.append(reward)
        assert not terminated
    assert walked == [0, 0, *range(1, 16), 15, 15, 15]
    assert rewards == [0.0] * 16 + [1.0] * 4
    assert truncated
    assert info["episode_info"]["coverage"] == 16 / 17
    assert env.places(np.stack([image, image])[None]).tolist() == [[15, 15]]
    assert env.optimal_score == 20 - 15 + 1
    assert Maze(length=5).optimal_score == 0.0  # out of reach


def test_random_mazes_score_exactly_what_they_say() -> None:
    """Every play of a short episode."""
    env, total = Maze(size=3, cells=3, length=4, goal=2), 0.0
    for actions in itertools.product(range(4), repeat=4):
        env.reset(seed=0)
        total += sum(env.step(np.int64(action))[1] for action in actions)
    assert env.random_score == pytest.approx(total / 4**4)
    assert Maze(length=7, goal=0).optimal_score == 7.0


def test_count_scores() -> None:
    assert Count(length=4).optimal_score == 10.0
    assert Count(length=2, max_length=3).random_score == (3 + 6) / 2


@pytest.mark.parametrize("id", ["toy/catch", "toy/count", "toy/maze", "toy/tmaze", "toy/noisy-catch"])
def test_specs_carry_the_scores_that_random_play_has(id: str) -> None:
    env = make_env(id, num_envs=8)
    env.reset(0)
    rng = np.random.default_rng(0)
    total, episodes = 0.0, 0
    for _ in range(400):
        step = env.step(rng.integers(0, int(env.spec.action.n), 8))
        total += float(step.rows["reward"].sum())
        if step.ends is not None:
            total += float(step.ends["reward"].sum())
            episodes += len(step.ends["reward"])
    assert env.spec.random_score is not None
    spread = {"toy/count": 28.0 * 8, "toy/noisy-catch": 8.5}.get(id, 1.0)
    assert total / episodes == pytest.approx(env.spec.random_score, abs=4 * spread / np.sqrt(episodes))
    assert env.spec.optimal_score >= env.spec.random_score


def test_episode_seeds_are_numpys_and_all_different() -> None:
    assert episode_seed(3, 1, 2) == int(np.random.SeedSequence(3, spawn_key=(1, 2)).generate_state(1)[0]) // 2
    seeds = {episode_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_action_log_is_compact_and_grows() -> None:
    assert compact_dtype(spaces.Discrete(256)) == np.uint8
    assert compact_dtype(spaces.Discrete(257)) == np.uint16
    assert compact_dtype(spaces.MultiDiscrete([2, 300])) == np.uint16
    assert compact_dtype(spaces.Box(-1, 1, (2,))) == np.float32
    log = ActionLog(spaces.MultiDiscrete([4, 200]))
    data = np.random.default_rng(0).integers(0, [4, 200], (200, 2))
    for action in data:
        log.append(action)
    np.testing.assert_array_equal(log.actions(), data)
    log.clear()
    assert log.actions().shape == (0, 2)


class Drifting(gymnasium.Env[np.ndarray, int]):
    """Breaks the rule that resumption rests on: draws from a generator that no seed reaches."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.random.default_rng().random(1).astype(np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.random.default_rng().random(1).astype(np.float32), 0.0, False, False, {}


def test_an_environment_that_ignores_its_seed_cannot_be_resumed() -> None:
    env = SyncVector("drifting", [Drifting()])
    env.reset(0)
    env.step(np.array([0]))
    with pytest.raises(ResumeError, match="not deterministic"):
        SyncVector("drifting", [Drifting()]).load_state_dict(env.state_dict())


def test_a_vector_of_another_size_is_refused() -> None:
    env = make_env("toy/catch", num_envs=2)
    with pytest.raises(RuntimeError, match="not reset"):
        env.state_dict()
    env.reset(0)
    with pytest.raises(ResumeError, match="2 streams"):
        make_env("toy/catch", num_envs=3).load_state_dict(env.state_dict())


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        ("toy/cath", {}, "toy/catch"),
        ("toy/catch", {"cell": 8}, "did you mean cells"),
        ("toy/catch", {"protocol": "dreamer"}, "protocol 'dreamer'"),
        ("toy/catch", {"cells": 2}, "cells 2"),
        ("toy/count", {"length": 3, "max_length": 2}, "max_length 2"),
        ("toy/count", {"end": "never"}, "'never'"),
        ("toy/tmaze", {"length": 0}, "length 0"),
        ("toy/tmaze", {"noise": -1}, "noise -1"),
        ("toy/tmaze", {"wait": -1}, "wait -1"),
        ("toy/tmaze", {"noise": 1, "pixels": True}, "noise 1"),
        ("toy/maze", {"cells": 4}, "cells 4"),
        ("toy/maze", {"goal": 31}, "goal 31"),
        ("toy/noisy-catch", {"strength": 1.0}, "strength 1.0"),
        ("toy/catch", {"ball": 5}, "ball 5"),
        ("toy/noisy-catch", {"dense": -1.0}, "dense -1"),
        ("toy/catch", {"num_envs": 0}, "num_envs is 0"),
    ],
)
def test_mistakes_are_named_in_one_line(id: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        make_env(id, **options)
    assert "\n" not in str(error.value)


def test_listing() -> None:
    names = env_names()
    assert names["toy"] == ["toy/catch", "toy/count", "toy/maze", "toy/noisy-catch", "toy/tmaze"]
    assert "CartPole-v1" in names["gymnasium"]
    assert protocols("toy/catch") == ("default",)
