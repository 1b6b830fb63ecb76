"""Atari: named protocols, a slow emulator loop of our own as reference, lost lives, time limits, resumption."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

pytest.importorskip("ale_py")

import ale_py
from ale_py import roms

from reverie.envs import atari
from reverie.envs.atari_protocols import PROTOCOLS
from reverie.envs.env import ResumeError
from reverie.envs.make import env_names, make_env, protocols
from reverie.errors import UserError


def area_weights(length: int, size: int) -> np.ndarray:
    """[size, length]: row i averages the source pixels that output pixel i covers, by their covered lengths."""
    edges = np.arange(size + 1) * length / size
    left = np.maximum(edges[:-1, None], np.arange(length)[None])
    right = np.minimum(edges[1:, None], np.arange(1, length + 1)[None])
    return np.maximum(right - left, 0.0) * size / length


@pytest.mark.parametrize("game", ["pong", "breakout", "ms_pacman"])
def test_frames_rewards_and_ends_equal_a_plain_emulator_loop(game: str) -> None:
    name = "".join(word.title() for word in game.split("_"))
    env = make_env(f"ALE/{name}-v5", sticky=0.0, noop_max=0, full_actions=True, max_frames=2000, threads=1)
    rows = env.reset(0)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    actions = ale.getLegalActionSet()
    down, across = area_weights(210, 64), area_weights(160, 64)
    rng = np.random.default_rng(0)
    scored = 0.0
    for _ in range(500):
        action = int(rng.integers(18))
        reward, screens = 0, []
        for _ in range(4):
            reward += ale.act(actions[action])
            screens.append(ale.getScreenGrayscale())
            if ale.game_over():
                break
        step = env.step(np.array([action]))
        rows = step.rows if step.ends is None else step.ends
        # Rounded to uint8. The closing frame is pooled with the env_step before it (see the module's docstring).
        if not rows["is_last"][0]:
            reference = down @ np.maximum(screens[-1], screens[-2]) @ across.T
            assert np.abs(rows["obs.image"][0, ..., 0] - reference).max() < 0.51
        assert rows["reward"][0] == reward
        assert rows["is_terminal"][0] == ale.game_over()
        scored += abs(reward)
        if rows["is_last"][0]:
            break
    assert scored > 0


def test_every_flag_of_every_protocol_is_what_its_source_says() -> None:
    table = {
        "atari": (64, True, 4, True, 0.25, False, 30, False, 108_000),
        "atari-84": (84, True, 4, True, 0.25, True, 0, False, 108_000),
        "atari100k": (64, False, 4, True, 0.0, False, 29, False, 108_000),
        "atari-dqn2015": (84, True, 4, True, 0.0, False, 30, True, 18_000),
    }
    assert {name: tuple(asdict(flags).values()) for name, flags in PROTOCOLS.items()} == table
    assert protocols("ALE/Pong-v5") == tuple(table)


def test_the_spec_carries_protocol_and_flags() -> None:
    env = make_env("ALE/MsPacman-v5", num_envs=2, protocol="atari100k", size=32, threads=1)
    assert env.spec.protocol == "atari100k"
    assert env.spec.flags["size"] == 32
    assert env.spec.flags["sticky"] == 0.0
    assert env.spec.action_repeat == 4
    assert env.reset(0)["obs.image"].shape == (2, 32, 32, 3)
    assert int(env.spec.action.n) == 9
    assert int(make_env("ALE/MsPacman-v5", full_actions=True, threads=1).spec.action.n) == 18


def test_a_time_limit_is_not_a_true_end() -> None:
    env = make_env("ALE/Pong-v5", num_envs=2, max_frames=40, threads=1)
    env.reset(0)
    for t in range(1, 21):
        step = env.step(np.zeros(2, np.int64))
        assert (step.ends is not None) == (t % 10 == 0)
        if step.ends is not None:
            assert step.ends["is_last"].all()
            assert not step.ends["is_terminal"].any()
            assert step.rows["is_first"].all()


def play(
    env: atari.AtariVector, env_steps: int, rng: np.random.Generator
) -> list[tuple[bool, bool, float, bytes, float]]:
    """Per env_step of stream 0: is_last, is_terminal, reward, frame, game_return (NaN if no game ended)."""
    out = []
    for _ in range(env_steps):
        step = env.step(rng.integers(0, int(env.spec.action.n), env.num_envs))
        row = step.rows if step.ends is None else step.ends
        game_return = step.episode_info.get(0, {}).get("game_return", np.nan)
        flags = bool(row["is_last"][0]), bool(row["is_terminal"][0])
        out.append((*flags, float(row["reward"][0]), row["obs.image"][0].tobytes(), game_return))
        if step.ends is not None:
            assert step.rows["is_first"][0]
            assert step.rows["reward"][0] == 0.0
    return out


def test_a_lost_life_ends_the_episode_and_the_game_goes_on() -> None:
    lives = make_env("ALE/Breakout-v5", protocol="atari-dqn2015", threads=1)
    games = make_env("ALE/Breakout-v5", protocol="atari-dqn2015", life_loss=False, threads=1)
    lives.reset(0)
    games.reset(0)
    a = play(lives, 450, np.random.default_rng(1))
    b = play(games, 450, np.random.default_rng(1))
    # The same game, frame by frame and reward by reward: lost lives reset nothing.
    assert [row[2:4] for row in a] == [row[2:4] for row in b]
    over = [t for t, row in enumerate(b) if row[0]]
    assert len(over) >= 2
    lost = [t for t, row in enumerate(a) if row[0]]
    assert set(over) < set(lost)
    assert len([t for t in lost if t <= over[0]]) == 5
    assert all(row[1] for row in a if row[0])
    assert [t for t, row in enumerate(a) if not np.isnan(row[4])] == over
    assert a[over[1]][4] == sum(row[2] for row in b[over[0] + 1 : over[1] + 1])


def test_a_life_lost_at_the_time_limit_ends_the_game() -> None:
    # The emulator announces such an end as a lost life only. Find when a life is lost, then set the limit there.
    env = make_env("ALE/Breakout-v5", protocol="atari-dqn2015", threads=1)
    env.reset(0)
    lost = next(t for t, row in enumerate(play(env, 200, np.random.default_rng(1)), 1) if row[0])
    env = make_env("ALE/Breakout-v5", protocol="atari-dqn2015", threads=1, max_frames=4 * lost)
    env.reset(0)
    rows = play(env, lost + 3, np.random.default_rng(1))
    assert rows[lost - 1][:2] == (True, True)
    assert not np.isnan(rows[lost - 1][4])
    assert not any(row[0] for row in rows[lost:])


def test_the_row_after_a_lost_life_has_no_reward_whatever_losing_it_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env("ALE/Breakout-v5", protocol="atari-dqn2015", threads=1)
    env.reset(0)
    emulator = env._env

    class Paying:
        """The emulators, with 7 points more per env_step."""

        def step(self, action: np.ndarray) -> tuple:
            frames, reward, *rest = emulator.step(action)
            return frames, reward + 7, *rest

        def reset(self, **how: object) -> tuple:
            return emulator.reset(**how)

    monkeypatch.setattr(env, "_env", Paying())
    rng, lives = np.random.default_rng(1), 0
    while lives < 2:
        step = env.step(rng.integers(0, 4, 1))
        if step.ends is None:
            assert step.rows["reward"][0] >= 7
        else:
            assert step.ends["reward"][0] >= 7
            assert step.rows["reward"][0] == 0
            lives += 1


@pytest.mark.parametrize(("most", "games"), [(0, 2), (1, 8), (3, 20)])
def test_games_begin_after_up_to_noop_max_frames_of_nothing(most: int, games: int) -> None:
    env = make_env("ALE/Pong-v5", num_envs=games, noop_max=most, threads=1)
    env.reset(0)
    # The emulator's own count of frames, which draws 0 .. noop_max.
    assert set(env._game_frame.tolist()) == set(range(most + 1))


def test_streams_are_seeded_now_and_then_and_resume_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED", 25)
    env = make_env("ALE/Pong-v5", num_envs=2, max_frames=40, threads=1)
    env.reset(0)
    rng = np.random.default_rng(0)
    play(env, 47, rng)
    state = env.state_dict()
    # Games last 10 env_steps: seeded at games 0 and 3, 17 env_steps played since.
    assert state["episode"].tolist() == [4, 4]
    assert state["seeded_episode"].tolist() == [3, 3]
    assert [len(actions) for actions in state["actions"]] == [17, 17]
    assert state["actions"][0].dtype == np.uint8
    later = rng.bit_generator.state
    expected = play(env, 40, rng)
    other = make_env("ALE/Pong-v5", num_envs=2, max_frames=40, threads=1)
    other.load_state_dict(state)
    rng.bit_generator.state = later
    assert repr(play(other, 40, rng)) == repr(expected)
    state["actions"][1][3] ^= 1
    state["actions"][1][4:] = 2
    with pytest.raises(ResumeError):
        other.load_state_dict(state)


def test_mistakes_are_named_in_one_line() -> None:
    for call, words in (
        (lambda: make_env("ALE/Pogn-v5"), "ALE/Pong-v5"),
        (lambda: make_env("ALE/Pong-v5", stiky=0.1), "sticky"),
        (lambda: make_env("ALE/Pong-v5", protocol="atari100"), "atari100k"),
        (lambda: make_env("ALE/Pong-v5", sticky=1.5), "sticky 1.5"),
        (lambda: make_env("ALE/Pong-v5", num_envs=0), "num_envs"),
        (lambda: make_env("ALE/Pong-v5", threads=-1), "threads -1"),
    ):
        with pytest.raises(UserError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    assert "ALE/MsPacman-v5" in env_names()["ALE"]
