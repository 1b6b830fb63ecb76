"""Evaluations of any checkpoint, anywhere that fits, in any manner of play; and what they look like."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gymnasium import spaces

from reverie import overrides
from reverie.agents.q_policy import QPolicy
from reverie.cli import cli
from reverie.envs.make import make_drawn, make_env
from reverie.errors import UserError
from reverie.play.evaluate import evaluate
from reverie.play.load import load
from reverie.presets import make_config
from reverie.report.captions import BAR, captioned, picture
from reverie.report.record import read_metrics
from reverie.report.video import VideoWriter
from reverie.run.checkpoint import Checkpoints
from reverie.run.roles import Evaluator
from reverie.run.train import train
from reverie.run.tree import load_tree

SMALL: dict[str, Any] = {
    "agent.torso.units": 8,
    "agent.hidden": 8,
    "replay.batch": 8,
    "replay.store.budget": 60_000,
    "run.env_steps": 240,
    "run.prefill": 40,
    "run.checkpoint_every": 120,
    "run.eval_every": 40,
    "run.eval_episodes": 3,
    "run.eval_envs": 3,
    "run.train_ratio": 8.0,
}


def made(folder: Path, env: str, **changes: Any) -> Path:
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    train(overrides.apply(make_config("dqn", "cpu", env), settings), folder)
    return folder


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("runs") / "cartpole", "CartPole-v1")


def frames_of(result: dict[str, Any]) -> np.ndarray:
    return np.asarray(imageio.imread(result["video"]))


def test_the_best_evaluation_is_kept_and_can_be_played(cartpole: Path) -> None:
    scores = {r["env_steps"]: r["eval/score"] for r in read_metrics(cartpole) if "eval/score" in r}
    best = max(scores.values())
    first = next(env_steps for env_steps, score in scores.items() if score == best)
    kept = load_tree(cartpole / "checkpoints" / "best")
    assert (kept["score"], kept["env_steps"]) == (best, first)
    played = evaluate(cartpole, checkpoint="best", episodes=2)
    assert (played["env_steps"], played["checkpoint"]) == (first, "best")
    name = next(
        iter(n for n in kept["trainer"]["learner"]["tensors"] if n.startswith("policy.") and n.endswith("weight"))
    )
    own = load(cartpole, checkpoint="best").policy.state_dict()[name.removeprefix("policy.")]
    assert torch.equal(own, kept["trainer"]["learner"]["tensors"][name])
    assert not (cartpole / "evaluation.json").exists()
    assert json.loads((cartpole / f"evaluation_{first}_best.json").read_text())["score"] == played["score"]


def test_only_a_higher_score_takes_the_place_of_the_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for score, env_steps, kept in (
        (float("nan"), 5, False),
        (1.0, 10, True),
        (1.0, 20, False),
        (0.5, 30, False),
        (2.0, 40, True),
    ):
        assert checkpoints.save_best(score, {"env_steps": env_steps, "x": torch.ones(1)}) is kept
    assert load_tree(checkpoints.find("best"))["env_steps"] == 40
    assert not checkpoints.save_best(2.0, {"env_steps": 40, "x": torch.ones(1)})
    assert checkpoints.save_best(1.5, {"env_steps": 30, "x": torch.ones(1)})  # the run was taken back
    assert not checkpoints.save_best(1.0, {"env_steps": 30, "x": torch.ones(1)})
    assert checkpoints.save_best(2.0, {"env_steps": 40, "x": torch.ones(1)})
    (tmp_path / "checkpoints" / "best").rename(tmp_path / "checkpoints" / ".best.replaced")  # killed in between
    assert load_tree(checkpoints.find("best"))["score"] == 2.0
    assert checkpoints.names() == []
    assert checkpoints.latest() is None


def test_an_evaluation_that_is_written_over_by_a_smaller_one_is_told(
    cartpole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for episodes, told in ((3, False), (3, False), (2, True), (2, False)):
        evaluate(cartpole, episodes=episodes, out=tmp_path)
        said = "evaluation.json held 3 episodes of these networks" in capsys.readouterr().err
        assert said == told


def test_a_run_can_keep_none(tmp_path: Path) -> None:
    none = made(tmp_path / "none", "CartPole-v1", run__keep_best=False, run__env_steps=80)
    with pytest.raises(UserError, match="has no checkpoint 'best'; it has latest, 80"):
        evaluate(none, checkpoint="best")


def test_any_checkpoint_that_is_there(cartpole: Path) -> None:
    assert evaluate(cartpole, checkpoint="120", episodes=1)["env_steps"] == 120
    assert evaluate(cartpole, checkpoint=120, episodes=1)["env_steps"] == 120  # type: ignore[arg-type]
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(UserError, match=f"episodes is {wrong}; it must be a whole number, at least 1"):
            evaluate(cartpole, episodes=wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"has no checkpoint '7'; it has latest, 120, 240, best"):
        evaluate(cartpole, checkpoint="7")


@pytest.mark.parametrize("play", ["greedy", "explore", "random"])
def test_the_manner_of_play_reaches_the_policy(
    cartpole: Path, play: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seats = []
    step = QPolicy.step
    monkeypatch.setattr(QPolicy, "step", lambda self, s, r, n, seat: seats.append(seat) or step(self, s, r, n, seat))
    result = evaluate(cartpole, play=play, episodes=2, out=tmp_path)
    assert {seat.play for seat in seats} == {play}
    assert {seat.env_steps for seat in seats} == {240}
    assert result.get("play", "greedy") == play
    assert [path.name for path in tmp_path.iterdir()] == [
        "evaluation.json" if play == "greedy" else f"evaluation_240_{play}.json"
    ]


def test_elsewhere_if_the_spaces_fit(cartpole: Path, tmp_path: Path) -> None:
    assert evaluate(cartpole, env="CartPole-v0", episodes=1, out=tmp_path)["env"] == "CartPole-v0"
    masked = evaluate(cartpole, settings={"env.options.mask": "[0]"}, episodes=1, out=tmp_path)
    assert masked["options"] == {"mask": [0]}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluation_240_CartPole-v0.json",
        "evaluation_240_CartPole-v1_mask-_0_.json",
    ]
    for env, message in (
        ("MountainCar-v0", "MountainCar-v0 does not fit a policy of CartPole-v1: its obs.vector is float32 (2,)"),
        ("toy/catch", "does not fit a policy of CartPole-v1"),
        ("CartPol-v1", "unknown environment 'CartPol-v1'; did you mean CartPole-v1"),
    ):
        with pytest.raises(UserError) as caught:
            evaluate(cartpole, env=env, out=tmp_path)
        assert message in str(caught.value)
    with pytest.raises(UserError, match=r"^agent\.gamma cannot change in an evaluation"):
        evaluate(cartpole, settings={"agent.gamma": "1"})


def test_as_many_actions_are_needed_as_were_trained_with() -> None:
    from reverie.envs.env import EnvSpec
    from reverie.play.evaluate import check_fits

    box = {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8)}
    with pytest.raises(UserError, match="b has 3 actions, a policy of a has 2"):
        check_fits(EnvSpec("a", box, spaces.Discrete(2)), EnvSpec("b", box, spaces.Discrete(3)))


def test_a_video_shows_the_environments_own_pictures_with_score_and_action(cartpole: Path, tmp_path: Path) -> None:
    result = evaluate(cartpole, video=True, episodes=3, out=tmp_path)
    frames = frames_of(result)
    assert frames.shape == (result["lengths"][0] + 50, 400 + BAR, 600, 3)  # 50 a second, one for the end
    bar = frames[:, 400:]
    assert bar.max() > 200
    assert (bar.astype(int)[1] - bar.astype(int)[-1]).any()
    assert frames[0, :400].mean() > 200  # CartPole is drawn on white


def test_an_evaluation_that_breaks_off_leaves_no_film(
    cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, steps = Evaluator.run, []

    def breaks(self: Evaluator, watch: Any) -> Any:
        def watched(rows: Any) -> None:
            watch(rows)
            steps.append(1)
            if len(steps) == 4:
                raise KeyboardInterrupt

        return made(self, watched)

    monkeypatch.setattr(Evaluator, "run", breaks)
    with pytest.raises(KeyboardInterrupt):
        evaluate(cartpole, video=True, episodes=1, out=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_several_episodes_of_a_vector_environment(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "CartPole-v1", env__options={"native": True}, run__env_steps=80)
    result = evaluate(run, video=True, video_episodes=2, episodes=6)
    lengths = result["lengths"][0] + result["lengths"][3]
    # Its first row of the second episode comes a step after the last of the first.
    assert lengths + 100 <= len(frames_of(result)) <= lengths + 104


def test_without_pictures_of_its_own_what_is_observed_is_shown(tmp_path: Path) -> None:
    result = evaluate(made(tmp_path / "catch", "toy/catch", run__env_steps=80), video=True, episodes=1)
    assert len(frames_of(result)) == result["lengths"][0] + 15
    maze = made(tmp_path / "maze", "toy/tmaze", run__env_steps=80)
    with pytest.raises(UserError, match=r"^toy/tmaze cannot be shown: it draws no pictures"):
        evaluate(maze, video=True)
    assert not (maze / "evaluation.json").exists()


def test_a_film_has_its_episodes_beside_a_window_too(
    cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("reverie.play.window.Window._wait", lambda self: None)
    result = evaluate(cartpole, video=True, window=True, video_episodes=1, episodes=2, out=tmp_path)
    assert result["lengths"][0] < len(frames_of(result)) <= result["lengths"][0] + 61


def test_a_window_shows_it_live(cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown: list[tuple[int, ...]] = []
    blit = pygame.surfarray.blit_array
    monkeypatch.setattr(pygame.surfarray, "blit_array", lambda s, a: shown.append(a.shape) or blit(s, a))
    monkeypatch.setattr("reverie.play.window.Window._wait", lambda self: None)
    words = ["eval", str(cartpole), "--render", "human", "--episodes", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    lengths = json.loads((tmp_path / "evaluation.json").read_text())["lengths"]
    assert len(shown) == lengths[0] + 50
    assert set(shown) == {(600, 400 + BAR, 3)}


def test_what_cannot_be_written_takes_no_score_down(
    cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", fails)
    monkeypatch.setattr(Path, "touch", fails)
    result = evaluate(cartpole, episodes=1, video=True, out=tmp_path)
    assert len(result["scores"]) == 1
    assert "video" not in result
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "Read-only file system" in told[0]
    assert "evaluation.json was not written: Read-only file system" in told[1]


def test_frames_go_to_the_disk_as_they_come(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "deep" / "a.mp4", fps=10)
    for level in (0, 100, 200):
        writer.add(np.full((7, 9, 3), level, np.uint8))
    assert not (tmp_path / "deep" / "a.mp4").exists()
    with pytest.raises(ValueError, match="of one size"):
        writer.add(np.zeros((8, 9, 3), np.uint8))
    writer.close()
    writer.close()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.mp4"]
    video = np.asarray(imageio.imread(tmp_path / "deep" / "a.mp4"))
    assert video.shape == (3, 8, 10, 3)
    assert [round(float(frame.mean()), -1) for frame in video] == [0, 100, 200]
    empty = VideoWriter(tmp_path / "b.mp4")
    empty.close()
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize(("channels", "width"), [(1, 5), (2, 10), (3, 5), (4, 20), (6, 30)])
def test_pictures_of_any_number_of_planes(channels: int, width: int) -> None:
    frame = np.zeros((4, 5, channels), np.uint8)
    frame[..., -1] = 200
    shown = picture(frame)
    assert (shown.shape, shown.dtype) == ((4, width, 3), np.uint8)
    if channels != 3:
        assert (shown[:, -5:] == 200).all()
    assert picture(np.eye(3)).tolist()[0] == [[255] * 3, [0] * 3, [0] * 3]
    assert captioned(shown, "text").shape[0] > BAR


def test_an_atari_game_is_shown_as_people_see_it() -> None:
    pytest.importorskip("ale_py")
    plain, drawn = make_env("ALE/Pong-v5", num_envs=2), make_drawn("ALE/Pong-v5", num_envs=2)
    rows, same = plain.reset(3), drawn.reset(3)
    rng = np.random.default_rng(0)
    for _ in range(120):
        assert all(np.array_equal(rows[name], same[name]) for name in rows)
        screen = drawn.render()
        assert screen is not None
        assert screen.shape == (210, 160, 3)
        small = np.asarray(rows["obs.image"][0, ..., 0], float)
        gray = screen.astype(float) @ [0.299, 0.587, 0.114]
        shrunk = gray[:, : 160 // 32 * 32].reshape(210, 32, 5).mean(2)
        assert abs(shrunk.mean() - small.mean()) < 4.0
        action = rng.integers(6, size=2)
        rows, same = plain.step(action).rows, drawn.step(action).rows
    assert plain.render() is None


def test_control_and_crafter_draw_themselves() -> None:
    pytest.importorskip("dm_control")
    control = make_drawn("dmc/cartpole-swingup", protocol="dmc-proprio")
    control.reset(0)
    drawn = control.render()
    assert drawn is not None
    assert (drawn.shape, drawn.dtype) == ((240, 320, 3), np.uint8)
    control.close()
    pytest.importorskip("crafter")
    world = make_drawn("crafter/reward", flicker=0.9)
    rows = world.reset(0)
    shown = world.render()
    assert shown is not None
    assert shown.shape == (288, 288, 3)
    assert shown.any()
    assert rows["obs.image"].shape[1:] == (64, 64, 3)


def test_another_way_to_play_is_refused(cartpole: Path) -> None:
    with pytest.raises(UserError, match="play 'gredy' is unknown; did you mean greedy"):
        evaluate(cartpole, episodes=1, play="gredy")  # type: ignore[arg-type]
    policy = load(cartpole)
    with pytest.raises(UserError, match="play 'gredy' is unknown; did you mean greedy"):
        policy.act(np.zeros(4, np.float32), policy.initial_state(1), play="gredy")  # type: ignore[arg-type]
