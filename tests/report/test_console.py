"""What a terminal, or a log file in its place, shows of a run."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console as Terminal

from reverie.report.console import Console, amount, duration
from reverie.report.log import Record
from reverie.report.writer import Opening


def record(frames: int, **metrics: float) -> Record:
    return {"env_steps": frames // 4, "frames": frames, "learner_steps": 0} | {
        name.replace("__", "/"): value for name, value in metrics.items()
    }


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_now_and_then_without_a_terminal() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(1000, every=30, terminal=Terminal(file=out, width=80), clock=clock)
    for second in range(0, 65, 5):
        clock.now = second
        console.write(record(second * 10, episode__score=second / 2, train__model_loss=3.14159, train__grad_norm=1.0))
    console.write(record(645, speed__env_steps_per_s=2.5, replay__bytes=3_500_000))
    console.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 4  # at 0, 30 and 60 seconds, and at the end
    assert lines[1] == "frames 300 of 1,000 (30.0%)  score 15  mean 7.5 of 7  model_loss 3.142  left 0:01:10"
    assert lines[3].startswith(
        "frames 645 of 1,000 (64.5%)  score 30  mean 15 of 13  env_steps/s 2.5  replay 3.5 MB  model_loss 3.142"
    )
    assert "\x1b" not in out.getvalue()


def test_the_time_left_follows_the_speed_of_the_last_minutes() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(10_000, every=0, terminal=Terminal(file=out), clock=clock)
    frames = 0
    for second in range(0, 400, 10):
        clock.now = second
        frames += 1000 if second < 50 else 10  # a fast prefill, then one frame a second
        console.write(record(frames))
    assert out.getvalue().splitlines()[-1] == f"frames 5,350 of 10,000 (53.5%)    left {duration(10_000 - 5350)}"


def test_the_mean_is_that_of_recent_episodes() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(10_000, every=0, terminal=Terminal(file=out), clock=clock)
    console.write(record(1, episode__score=1000.0))
    assert "mean" not in out.getvalue()  # of one episode, that is its score
    for frames in range(2, 102):
        console.write(record(frames, episode__score=float(frames)))
    console.write(record(102, train__model_loss=1.0))
    assert "score 101  mean 51.5 of 100  model_loss 1" in out.getvalue().splitlines()[-1]


def test_the_time_left_leaves_the_prefill_out() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(2000, prefill=1000, every=0, terminal=Terminal(file=out), clock=clock)
    for frames in range(0, 1000, 100):  # a hundred frames a second
        clock.now += 1
        console.write(record(frames))
    line = out.getvalue().splitlines()[-1]
    assert line == "frames 900 of 2,000 (45.0%, random actions fill the replay)    left ?"
    for frames in range(1010, 1100, 10):  # and then one
        clock.now += 10
        console.write(record(frames))
        left = out.getvalue().splitlines()[-1].rpartition("left ")[2]
        assert left == ("?" if frames == 1010 else duration(2000 - frames))


def test_a_terminal_shows_a_panel_before_the_first_record() -> None:
    out = io.StringIO()
    console = Console(2000, "dqn on pong", prefill=1000, terminal=Terminal(file=out, force_terminal=True, width=100))
    console.begin(Opening(Path("run"), "dqn on pong", {}))
    assert "dqn on pong" in out.getvalue()
    assert "frames 0 of 2,000 (0.0%, random actions fill the replay)  left ?" in out.getvalue()
    console.begin(Opening(Path("run"), "dqn on pong", {}, resumed_at=1500))
    assert "frames 1,500 of 2,000 (75.0%)  left ?" in out.getvalue()
    console.close()


def test_closing_before_the_first_record_shows_nothing() -> None:
    out = io.StringIO()
    Console(10, terminal=Terminal(file=out)).close()
    assert out.getvalue() == ""


def test_a_live_panel_on_a_terminal_shows_the_merged_values_and_gives_the_cursor_back() -> None:
    out, clock = io.StringIO(), Clock()
    terminal = Terminal(file=out, force_terminal=True, width=100)
    console = Console(100, "dreamerv2 on memory", terminal=terminal, clock=clock)
    console.write(record(0, episode__score=1.0))
    clock.now = 10
    console.write(record(50, train__kl_loss=0.25, replay__ratio=0.5))
    console.close()
    text = out.getvalue()
    assert "dreamerv2 on memory" in text
    assert "frames 50 of 100 (50.0%)  left 0:00:10" in text
    last = text.split("dreamerv2 on memory")[-1]
    for shown in ("score", "kl_loss", "0.25", "replay ratio"):
        assert shown in last
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_amounts_for_people() -> None:
    assert [duration(s) for s in (0, 61.4, 3723, -5)] == ["0:00:00", "0:01:01", "1:02:03", "0:00:00"]
    assert amount("replay/bytes", 2_340_000_000) == "2.34 GB"
    assert amount("replay/rows", 12345) == "12,345"
    assert amount("train/loss", 0.000123456) == "0.0001235"
