"""`reverie plot`: the numbers it writes and prints, and one line for what it cannot draw."""

from __future__ import annotations

import csv
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from click.testing import CliRunner, Result

from reverie.cli import cli
from reverie.errors import UserError
from reverie.report.plot import plot
from tests.report.run_dirs import make_run


def numbers(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def reverie_plot(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["plot", *map(str, words)])


def refused(*words: str | Path) -> str:
    result = reverie_plot(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("reverie: error: ")


def test_four_seeds_are_a_curve_with_an_interval(tmp_path: Path) -> None:
    for seed, score in enumerate((1.0, 2.0, 3.0, 10.0)):
        make_run(tmp_path / "runs" / str(seed), [score, 2 * score], seed=seed)
    drawn = plot([tmp_path / "runs"], tmp_path / "new" / "c.png")
    assert drawn.notes == ()
    rows = numbers(tmp_path / "new" / "c.csv")
    assert list(rows[0]) == ["curve", "statistic", "environments", "runs", "metric", "frames", "value", "low", "high"]
    assert [(row["frames"], row["value"]) for row in rows] == [("40", "2.5"), ("80", "5")]  # one left out on each side
    assert {row["statistic"] for row in rows} == {"IQM of 4 runs, 95 % interval"}
    assert all(1 <= float(row["low"]) < 2.5 < float(row["high"]) for row in rows[:1])
    title, head, line = drawn.table
    assert title == "episode/score, mean of the last tenth of each curve"
    assert " ".join(head.split()) == "curve runs frames IQM 95 % interval mean"
    assert line.split()[:4] == ["r2d2", "4", "80", "5"]
    assert line.split()[-1] == "8"
    assert (imageio.imread(drawn.picture)[..., :3] == np.array([0x1F, 0x5F, 0xA8])).all(-1).sum() > 300


def test_two_seeds_are_a_mean_without_interval(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path / str(seed), [seed, 4.0], seed=seed)
    drawn = plot([tmp_path], tmp_path / "c.png", x="minutes")
    rows = numbers(drawn.csv)
    assert [(row["minutes"], row["value"], row["low"], row["high"]) for row in rows] == [
        ("1", "0.5", "", ""),
        ("2", "4", "", ""),
    ]
    assert rows[0]["statistic"] == "mean of 2 runs"
    assert drawn.table[2].split() == ["r2d2", "2", "2.00", "-", "-", "4"]


def test_games_are_put_together_by_human_normalised_scores(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"pong-{seed}", [-20.7, 14.6], env="ALE/Pong-v5", seed=seed)
        make_run(tmp_path / f"freeway-{seed}", [0.0, 59.2], env="ALE/Freeway-v5", seed=seed)
    drawn = plot([tmp_path], tmp_path / "c.png", group=["agent", "config"])
    (curve,) = drawn.curves
    assert curve.value == pytest.approx([0, 1.5])
    assert curve.statistic == "IQM of 6 runs of 2 environments, 95 % interval"
    # Nothing varies between seeds, and bootstrapping keeps to each game: the interval is a point.
    assert curve.low == pytest.approx(curve.value)
    assert curve.high == pytest.approx(curve.value)
    title, head, line = drawn.table
    assert title.startswith("episode/score, human-normalised")
    assert " ".join(head.split()) == "curve runs environments frames IQM 95 % interval median mean optimality gap"
    assert " ".join(line.split()) == "r2d2 6 2 80 1.5 1.5 to 1.5 1.5 1.5 0"
    by_game = plot([tmp_path], tmp_path / "c.png")
    assert [c.label for c in by_game.curves] == ["r2d2, ALE/Freeway-v5", "r2d2, ALE/Pong-v5"]
    assert by_game.curves[0].value == pytest.approx([0, 2])


def test_normalisation_can_be_turned_off_and_needs_scores(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [-20.7, 14.6], env="ALE/Pong-v5")
    assert plot([tmp_path], tmp_path / "c.png").curves[0].value == pytest.approx([0, 1])
    assert plot([tmp_path], tmp_path / "c.png", normalise="off").curves[0].value == pytest.approx([-20.7, 14.6])
    make_run(tmp_path / "b", [1.0], env="ALE/Pong-v5", metric="train/loss")
    assert plot([tmp_path / "b"], tmp_path / "c.png", metric="train/loss").curves[0].value == pytest.approx([1.0])
    with pytest.raises(UserError, match="train/loss has no human reference"):
        plot([tmp_path / "b"], tmp_path / "c.png", metric="train/loss", normalise="human")
    make_run(tmp_path / "c", env="toy/catch")
    with pytest.raises(UserError, match="no human score is known for toy/catch"):
        plot([tmp_path / "c"], tmp_path / "c.png", normalise="human")


def test_environments_do_not_share_an_axis_by_accident(tmp_path: Path) -> None:
    make_run(tmp_path / "a", env="ALE/Pong-v5")
    make_run(tmp_path / "b", env="toy/catch")
    out = tmp_path / "c.png"
    for words in ((), ("--group", "agent"), ("--normalise", "off")):
        assert "of 2 environments (ALE/Pong-v5, toy/catch) cannot share" in refused(tmp_path, "--out", out, *words)
    assert not out.exists()
    result = reverie_plot(tmp_path, "--out", out, "--group", "agent", "--group", "env")
    assert result.exit_code == 0, result.output
    assert {row["curve"] for row in numbers(tmp_path / "c.csv")} == {"r2d2, ALE/Pong-v5", "r2d2, toy/catch"}


def test_doubts_are_said(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [1.0] * 10, seed=0)
    make_run(tmp_path / "b", [1.0] * 2, seed=0)
    make_run(tmp_path / "c", metric="train/loss")
    result = reverie_plot(tmp_path, "--out", tmp_path / "c.png", "--x", "env_steps")
    assert result.exit_code == 0, result.output
    left_out, twice, short = result.stderr.splitlines()
    assert left_out.startswith(f"note: left out: {tmp_path / 'c'} has no 'episode/score'")
    assert twice == f"note: r2d2: {tmp_path / 'a'} and {tmp_path / 'b'} are the same seed 0, counted twice"
    assert short == f"note: r2d2: drawn up to 20 env_steps, where {tmp_path / 'b'} ends; the longest run has 100"


def test_runs_that_never_meet_are_drawn_without_statistics(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [1.0], seed=0)
    make_run(tmp_path / "b", [float("nan"), 2.0], seed=1)
    drawn = plot([tmp_path], tmp_path / "c.png")
    assert drawn.table[2].split() == ["r2d2", "2", "-", "-", "-", "-"]
    assert numbers(drawn.csv) == []
    assert drawn.notes[-1] == "r2d2: nothing is drawn, for at no frames are all its runs there; plot them one by one"


def test_numbers_of_somebody_else_are_not_written_over(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    (tmp_path / "c.csv").write_text("my data\n")
    with pytest.raises(UserError, match=r"c.csv is there and was not written by this; name another --out"):
        plot([tmp_path / "a"], tmp_path / "c.png")
    assert (tmp_path / "c.csv").read_text() == "my data\n"
    plot([tmp_path / "a"], tmp_path / "d.png")
    plot([tmp_path / "a"], tmp_path / "d.png")  # its own


def test_dollars_are_dollars(tmp_path: Path) -> None:
    make_run(tmp_path / "a", env=r"a:$\frac$x$")
    assert plot([tmp_path / "a"], tmp_path / "c.png").picture.exists()


def test_the_command_prints_the_table_and_where_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "runs" / "a", [1.0, 3.0])
    monkeypatch.chdir(tmp_path)
    result = reverie_plot("runs/a")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "episode/score, mean of the last tenth of each curve",
        "curve  runs  frames  IQM  95 % interval  mean",
        "r2d2   1     80      -    -              3",
        "picture  curves.png",
        "numbers  curves.csv",
    ]
    assert (tmp_path / "curves.png").exists()


def test_slips_are_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert refused() == "nothing to plot; name run directories or folders of them: reverie plot runs/a runs/b\n"
    assert "has no run (a directory with config.json) in it" in refused(tmp_path / "empty")
    assert "nowhere is not a directory" in refused(tmp_path / "nowhere")
    assert "has no 'train/loss' yet; it has: episode/score, time/elapsed_s" in refused(run, "--metric", "train/loss")
    assert "should end with .png, .svg, .pdf" in refused(run, "--out", tmp_path / "c.gif")
    assert "'step' is not one of" in refused(run, "--x", "step")
    assert "'seed' is not one of" in refused(run, "--group", "seed")


def test_scores_of_single_lives_are_held_against_no_reference(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", [1.0, 2.0], env="ALE/Pong-v5")
    with (path / "metrics.jsonl").open("a") as log:
        log.write(
            '{"env_steps": 30, "frames": 120, "learner_steps": 3, "time/elapsed_s": 180, "episode/game_return": 9}\n'
        )
    lives = plot([path], tmp_path / "lives.png")
    (note,) = lives.notes
    assert note.endswith("which no reference is for; of whole games is --metric episode/game_return")
    assert lives.table[0].startswith("episode/score, mean")
    assert (
        plot([path], tmp_path / "games.png", metric="episode/game_return")
        .table[0]
        .startswith("episode/game_return, human-normalised")
    )
    assert "is of single lives here" in refused(path, "--normalise", "human", "--out", tmp_path / "x.png")


def test_a_mean_over_the_episodes_of_several_environments_is_told(tmp_path: Path) -> None:
    drawn = plot([make_run(tmp_path / "a", env="toy/catch,toy/maze")], tmp_path / "a.png")
    assert any("those with short ones count more" in note for note in drawn.notes)


def test_one_damaged_run_of_a_folder_is_left_out_and_links_are_followed(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a")
    (make_run(tmp_path / "runs" / "b", seed=1) / "config.json").write_text("{")
    drawn = plot([tmp_path / "runs"], tmp_path / "c.png")
    assert len(drawn.notes) == 1
    assert "b/config.json is damaged" in drawn.notes[0]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(tmp_path / "runs" / "a")
    (tmp_path / "links" / "two").symlink_to(tmp_path / "links")
    assert plot([tmp_path / "links"], tmp_path / "d.png").curves[0].label == "r2d2"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"frames": 1, "env_steps": 1, "learner_steps": 1, "episode/score": null}', "episode/score is no number"),
        ('{"frames": 1, "env_steps": 1, "learner_steps": 1, "episode/score": [1]}', "episode/score is no number"),
        ('{"env_steps": 1, "learner_steps": 1, "episode/score": 1}', "has episode/score and no frames"),
    ],
)
def test_lines_that_are_no_records_are_one_line(tmp_path: Path, line: str, words: str) -> None:
    path = make_run(tmp_path / "a")
    with (path / "metrics.jsonl").open("a") as log:
        log.write(line + "\n")
    assert words in refused(path, "--out", tmp_path / "x.png")


def test_large_scores_are_not_rounded_away(tmp_path: Path) -> None:
    for seed, score in enumerate((123456.0, 123457.0, 123459.0)):
        make_run(tmp_path / "runs" / str(seed), [score], seed=seed)
    assert "123,456 to 123,459" in plot([tmp_path / "runs"], tmp_path / "c.png").table[-1]
