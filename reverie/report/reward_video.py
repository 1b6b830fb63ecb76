"""Video of truth beside dream with their rewards: one line per episode, its pictures, the numbers and their course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reverie.report.curves import COLOURS, GRAY
from reverie.report.prediction import false_reward
from reverie.report.video import rgb, write_video

WRONG = COLOURS[1]


@dataclass(frozen=True)
class Episode:
    """T rows: truth, dream: uint8 [T, H, W, C]; reward, predicted: float [T], in the model's units."""

    truth: np.ndarray
    dream: np.ndarray
    reward: np.ndarray
    predicted: np.ndarray


def reward_video(
    episodes: Sequence[Episode], context: int, threshold: float | None, out: str | Path, fps: float = 4.0
) -> Path:
    """Path `out` of a GIF or MP4 of `episodes`, whose first `context` rows were seen by the model.

    A predicted reward is printed in red where it is false, see `reverie.report.prediction.false_reward`.
    An episode that ends before others stays at its last row. Raises ValueError if there are no episodes.
    """
    if not episodes:
        raise ValueError("a video needs at least one episode")
    figure = Figure(figsize=(6.4, 1.9 * len(episodes)), dpi=80, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(len(episodes), 3, squeeze=False, width_ratios=[1, 1, 1.6])
    panels = []
    for episode, (left, right, course) in zip(episodes, grid, strict=True):
        pictures = [
            axes.imshow(rgb(frames[0]), vmin=0, vmax=255)
            for axes, frames in ((left, episode.truth), (right, episode.dream))
        ]
        for axes in (left, right):
            axes.set_axis_off()
        rows = np.arange(len(episode.reward))
        course.plot(rows, episode.reward, color=COLOURS[0], linewidth=3, alpha=0.5)
        course.plot(rows[context:], episode.predicted[context:], color=WRONG, linewidth=1.2)
        course.axvspan(-0.5, context - 0.5, color="#eeeeee")
        course.spines[["top", "right"]].set_visible(False)
        course.tick_params(labelsize=7)
        false = false_reward(episode.predicted, episode.reward, threshold)
        panels.append((episode, false, pictures, left, right, course.axvline(0, color=GRAY, linewidth=1)))
    grid[0][2].set_title("reward: true blue, dreamed red; seen gray", fontsize=7)
    frames = []
    for t in range(max(len(episode.reward) for episode in episodes)):
        for episode, false, pictures, left, right, cursor in panels:
            now = min(t, len(episode.reward) - 1)
            pictures[0].set_data(rgb(episode.truth[now]))
            pictures[1].set_data(rgb(episode.dream[now]))
            true, predicted = float(episode.reward[now]), float(episode.predicted[now])
            left.set_title(f"truth {true:+.2f}", fontsize=9)
            phase = "seen" if now < context else "dream"
            colour = WRONG if now >= context and false[now] else "black"
            right.set_title(f"{phase} {predicted:+.2f}", fontsize=9, color=colour)
            cursor.set_xdata([now, now])
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return write_video(out, np.stack(frames), fps)
