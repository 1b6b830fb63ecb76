"""Minari's datasets as rows: every number in its place, learned from, and refused in one line where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces
from tiny_runs import Never, Stop, config

pytest.importorskip("minari")
pytest.importorskip("h5py")

import minari
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.storage import hosting

from reverie.cli import cli
from reverie.config import Config
from reverie.data.dataset import open_dataset
from reverie.data.rows import row_spec
from reverie.envs.env import VectorEnv
from reverie.envs.make import make_env
from reverie.envs.spaces import ActionAdapter
from reverie.errors import UserError
from reverie.run.minari import MinariDataset
from reverie.run.offline import Offline, for_dataset
from reverie.run.saved_config import save_config


class Arm(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Observations in a dictionary, actions between unlike bounds; ends after six env_steps."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-9, 9, (2,), np.float64), "joint": spaces.Discrete(3, start=1)}
    )
    action_space = spaces.Box(np.array([-1, 0], np.float32), np.array([3, 0.5], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self.seen(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self.seen(), float(action[0]), self.count == 6, False, {}

    def seen(self) -> dict[str, Any]:
        return {"place": self.np_random.uniform(-9, 9, 2), "joint": np.int64(1 + self.count % 3)}


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


def record(name: str, env: gymnasium.Env, episodes: int, most: int = 10**6) -> list[EpisodeBuffer]:
    """Random play as a dataset of Minari. most: env_steps after which an episode is broken off."""
    played = []
    env.action_space.seed(0)
    for number in range(episodes):
        observations, actions, rewards, ends, cuts = [env.reset(seed=number)[0]], [], [], [], []
        while len(rewards) < most and not (ends and (ends[-1] or cuts[-1])):
            actions.append(env.action_space.sample())
            observation, reward, terminated, truncated, _ = env.step(actions[-1])
            observations.append(observation)
            for to, value in ((rewards, reward), (ends, terminated), (cuts, truncated)):
                to.append(value)
        if isinstance(observations[0], dict):
            seen: Any = {key: [each[key] for each in observations] for key in observations[0]}
        else:
            seen = observations
        played.append(EpisodeBuffer(number, None, None, seen, actions, rewards, ends, cuts, {}))
    minari.create_dataset_from_buffers(
        name,
        played,
        env=env if env.spec else None,
        observation_space=env.observation_space,
        action_space=env.action_space,
        algorithm_name="random",
        author="nobody",
        author_email="nobody@example.org",
        code_permalink="none",
        description="random play",
        data_format="hdf5",
    )
    return played


def no_network(name: str) -> None:
    raise ConnectionError(f"{name} is not to be downloaded here")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where datasets are, and no others."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(hosting, "download_dataset", no_network)
    return tmp_path


@pytest.fixture
def cartpole(home: Path) -> list[EpisodeBuffer]:
    return record("test/cartpole-v0", gymnasium.make("CartPole-v1"), 12)


def cut_from(source: MinariDataset) -> list[Any]:
    chunks = list(source.chunks(0))
    starts = [chunk.start for chunk in chunks]
    np.testing.assert_array_equal(starts, np.cumsum([0, *(len(chunk) for chunk in chunks)])[:-1])
    assert sum(len(chunk) for chunk in chunks) == len(source)
    return [chunk.rows for chunk in chunks]


def test_rows_are_what_was_recorded_each_number_in_its_place(cartpole: list[EpisodeBuffer]) -> None:
    source = MinariDataset("minari:test/cartpole-v0", make_env("CartPole-v1"))
    for rows, episode in zip(cut_from(source), cartpole, strict=True):
        steps = len(episode.rewards)
        np.testing.assert_array_equal(rows["obs.vector"], np.array(episode.observations, np.float32))
        assert rows["action"].tolist() == [*map(int, episode.actions), 0]  # type: ignore[arg-type]
        assert rows["prev_action"].tolist() == [0, *map(int, episode.actions)]  # type: ignore[arg-type]
        assert rows["reward"].tolist() == [0.0, *episode.rewards]
        assert rows["is_first"].tolist() == [True] + [False] * steps
        assert rows["is_last"].tolist() == rows["is_terminal"].tolist() == [False] * steps + [True]


def test_they_are_what_acting_the_same_gives(cartpole: list[EpisodeBuffer]) -> None:
    """Field by field, in name, shape and dtype, as our own environment gives them."""
    env = make_env("CartPole-v1")
    ours = env.reset(0)
    for rows in cut_from(MinariDataset("minari:test/cartpole-v0", env)):
        for name, value in ours.items():
            assert (rows[name].shape[1:], rows[name].dtype) == (value.shape[1:], value.dtype), name
        assert set(rows) == set(ours) | {"action", "prev_action"}


def test_a_time_limit_is_no_end_and_neither_is_being_broken_off(home: Path) -> None:
    record("test/pendulum-v0", gymnasium.make("Pendulum-v1", max_episode_steps=9), 2)
    record("test/broken-v0", gymnasium.make("Pendulum-v1"), 2, most=5)
    for name, steps in (("pendulum", 9), ("broken", 5)):
        for rows in cut_from(MinariDataset(f"minari:test/{name}-v0", make_env("Pendulum-v1"))):
            assert rows["is_last"].tolist() == [False] * steps + [True]
            assert not rows["is_terminal"].any()


def test_dictionaries_and_unlike_bounds(home: Path) -> None:
    played = record("test/arm-v0", Arm(), 3)
    env = make_env(f"{__name__}:Arm")
    for rows, episode in zip(cut_from(MinariDataset("minari:test/arm-v0", env)), played, strict=True):
        assert isinstance(episode.observations, dict)
        np.testing.assert_allclose(rows["obs.place"], np.array(episode.observations["place"]), rtol=1e-6)
        np.testing.assert_array_equal(rows["obs.joint"], np.array(episode.observations["joint"]) - 1)
        np.testing.assert_allclose(
            env.adapter.act(rows["action"][:-1], alone=False), np.array(episode.actions), atol=1e-6
        )
        by_hand = [(a[0] + 1) / 4 * 2 - 1 for a in episode.actions]  # type: ignore[union-attr]
        np.testing.assert_allclose(rows["action"][:-1, 0], by_hand, atol=1e-6)
        assert rows["is_terminal"].tolist() == [False] * 6 + [True]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([3, 4], start=[1, 0]),
        spaces.MultiBinary([2, 2]),
        spaces.Box(np.array([[-1, 0], [5, -3]], np.float32), np.array([[3, 0.5], [5, 7]], np.float32)),
        spaces.Box(0, 255, (3,), np.uint8),
    ],
    ids=lambda space: type(space).__name__,
)
def test_row_actions_are_the_inverse_of_native_ones(space: spaces.Space) -> None:
    space.seed(0)
    adapter, native = ActionAdapter(space), np.stack([space.sample() for _ in range(20)])
    rows = adapter.rows(native)
    assert rows.shape[1:] == (adapter.space.shape or ())
    assert all(adapter.space.contains(row if np.ndim(row) else np.int64(row)) for row in rows)
    np.testing.assert_allclose(adapter.batch(rows), native, atol=1e-5)


def test_actions_beyond_their_space(home: Path) -> None:
    box = ActionAdapter(spaces.Box(-2.0, 2.0, (1,)))
    np.testing.assert_array_equal(box.rows(np.array([[5.0], [-2.5], [1.0]])), [[1.0], [-1.0], [0.5]])
    with pytest.raises(UserError, match=r"outside of Discrete\(3\): 3"):
        ActionAdapter(spaces.Discrete(3)).rows(np.array([0, 3]))
    with pytest.raises(UserError, match=r"outside of MultiBinary"):
        ActionAdapter(spaces.MultiBinary([2, 2])).rows(np.full((3, 2, 2), 2))
    with pytest.raises(UserError, match=r"shape \(2,\)"):
        box.rows(np.zeros((4, 2)))


def offline(dataset: str, env: str, **changes: Any) -> Config:
    return for_dataset(config(env, dataset__path=dataset, **changes))


def test_a_world_model_learns_from_it_and_is_resumed(cartpole: list[EpisodeBuffer], tmp_path: Path) -> None:
    asked = offline("minari:test/cartpole-v0", "CartPole-v1", replay__store__budget=1_000_000)
    folder = tmp_path / "run"
    folder.mkdir()
    save_config(asked, folder)
    run = Offline(asked, folder)
    run.train(Stop(run, 100))
    minari.delete_dataset("test/cartpole-v0")  # it is not needed any more
    resumed = Offline(asked, folder)
    resumed.restore()
    resumed.train(Never())
    assert resumed.run.complete
    rows = open_dataset(folder / "replay").rows(0)
    np.testing.assert_array_equal(
        rows["obs.vector"], np.concatenate([np.array(each.observations, np.float32) for each in cartpole])
    )


def test_the_command(cartpole: list[EpisodeBuffer], tmp_path: Path) -> None:
    words = ["train", "dqn", "--env", "CartPole-v1", "--dataset", "minari:test/cartpole-v0", "--env_steps", "900"]
    words += ["--run.prefill", "500", "--run.eval_episodes", "2", "--logdir", str(tmp_path / "run")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "checkpoints" / "latest").exists()


@pytest.mark.parametrize(
    ("name", "env", "changes", "words"),
    [
        ("test/none-v0", "CartPole-v1", {}, "minari:test/none-v0 cannot be downloaded: ConnectionError"),
        ("test/cartpole-v0", "Acrobot-v1", {}, r"recorded in CartPole-v1 with actions Discrete\(2\); Acrobot-v1 has"),
        ("test/cartpole-v0", "MountainCar-v0", {}, "recorded in CartPole-v1 with actions"),
        ("test/cartpole-v0", "CartPole-v1", {"env__options": {"flicker": 0.5}}, "hides some"),
        ("test/cartpole-v0", "CartPole-v1", {"dataset__rewards": "played"}, "cannot be played again"),
        (
            "test/cartpole-v0",
            f"{__name__}:two_buttons",
            {},
            r"with 'vector' in Box.*\(4,\), float32\); .*\(3,\), float32\)",
        ),
    ],
    ids=["missing", "actions", "another", "flicker", "played", "observations"],
)
def test_what_does_not_fit_is_said_in_one_line(
    cartpole: list[EpisodeBuffer], tmp_path: Path, name: str, env: str, changes: dict[str, Any], words: str
) -> None:
    plain = changes | {"replay__selector": "uniform"}
    asked = offline(f"minari:{name}", "CartPole-v1", **plain)
    asked = replace(asked, env=replace(asked.env, id=env))
    run = Offline(asked, tmp_path / "run")
    with pytest.raises(UserError, match=words) as error:
        run.begin()
    assert "\n" not in str(error.value)


def two_buttons() -> gymnasium.Env:
    """As many actions as CartPole, and other observations."""
    return Buttons()


class Buttons(gymnasium.Env[np.ndarray, np.int64]):
    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(3, np.float32), 0.0, True, False, {}


def test_episodes_that_are_broken_are_named(home: Path) -> None:
    source: Any = object.__new__(MinariDataset)
    env: VectorEnv = make_env("CartPole-v1")
    source.folder, source.spec, source.adapter = "minari:x", env.spec, env.adapter
    source.fields = row_spec(env.spec.observation, env.spec.action)
    episode = SimpleNamespace(
        id=7,
        observations=np.zeros((3, 4), np.float32),
        actions=np.array([0, 1]),
        rewards=np.array([0.0, np.nan]),
        terminations=np.array([False, True]),
        truncations=np.array([False, False]),
    )
    with pytest.raises(UserError, match="minari:x, episode 7: reward is not finite"):
        source.rows(episode)
    episode.rewards, episode.actions = np.array([0.0, 1.0]), np.array([0])
    with pytest.raises(UserError, match="1 actions and 2 rewards"):
        source.rows(episode)
    episode.terminations = np.array([True, False])
    with pytest.raises(UserError, match="episode 7 ends after 1 of 2 env_steps"):
        source.rows(episode)
    episode.terminations, episode.rewards = np.array([False, True]), np.zeros((2, 1))
    with pytest.raises(UserError, match=r"episode 7 has rewards \(2, 1\), terminations \(2,\), truncations \(2,\)"):
        source.rows(episode)
    episode.rewards = np.array(["much", "more"])
    with pytest.raises(UserError, match="episode 7: its rewards are no numbers"):
        source.rows(episode)
    episode.rewards = episode.terminations = episode.truncations = np.zeros(0)
    with pytest.raises(UserError, match="episode 7 has no env_steps"):
        source.rows(episode)


def test_a_dataset_that_does_not_fit_leaves_nothing_behind(cartpole: list[EpisodeBuffer], tmp_path: Path) -> None:
    words = ["train", "dqn", "--env", "Acrobot-v1", "--dataset", "minari:test/cartpole-v0", "--logdir"]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "recorded in CartPole-v1" in done.output
    assert not (tmp_path / "run" / "config.json").exists()


def test_files_that_cannot_be_read_are_said(cartpole: list[EpisodeBuffer], tmp_path: Path) -> None:
    import h5py

    path = next(tmp_path.rglob("main_data.hdf5"))
    with h5py.File(path, "a") as file:
        del file["episode_3"]["rewards"]
    source = MinariDataset("minari:test/cartpole-v0", make_env("CartPole-v1"))
    with pytest.raises(UserError, match="minari:test/cartpole-v0 cannot be read: KeyError"):
        list(source.chunks(0))
    path.with_name("metadata.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be opened"):
        MinariDataset("minari:test/cartpole-v0", make_env("CartPole-v1"))


def test_another_environment_with_the_same_spaces_is_said(
    cartpole: list[EpisodeBuffer], capsys: pytest.CaptureFixture[str]
) -> None:
    MinariDataset("minari:test/cartpole-v0", make_env("CartPole-v1"))
    assert "evaluated" not in capsys.readouterr().err
    MinariDataset("minari:test/cartpole-v0", make_env("CartPole-v0"))
    assert "recorded in CartPole-v1, and CartPole-v0 is what this run is evaluated in" in capsys.readouterr().err


def test_an_environment_that_repeats_actions_is_refused(home: Path) -> None:
    pytest.importorskip("dm_control")
    record("test/pendulum-v0", gymnasium.make("Pendulum-v1", max_episode_steps=9), 1)
    with pytest.raises(UserError, match="repeats each action 2 times"):
        MinariDataset("minari:test/pendulum-v0", make_env("dmc/pendulum-swingup", protocol="dmc-proprio"))
