"""Videos can be played (and are read back here), and grids have each picture in its place."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest

from reverie.errors import UserError
from reverie.report.video import difference, enlarge, rgb, side_by_side, strip, write_image, write_video


def ramp(frames: int, height: int, width: int, channels: int) -> np.ndarray:
    """Frame t is flat with brightness 20 t."""
    levels = (20 * np.arange(frames)).astype(np.uint8).reshape(-1, 1, 1, 1)
    return np.broadcast_to(levels, (frames, height, width, channels)).copy()


@pytest.mark.parametrize(("height", "width", "channels"), [(64, 64, 3), (5, 3, 1), (301, 257, 3), (1, 1, 1)])
def test_mp4_plays_with_even_sides_and_the_frames_in_order(
    tmp_path: Path, height: int, width: int, channels: int
) -> None:
    path = write_video(tmp_path / "deep" / "dream.mp4", ramp(6, height, width, channels), fps=10)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == 10
    w, h = meta["size"]
    assert w % 2 == h % 2 == 0
    assert max(w, h) >= 256
    played = [np.frombuffer(frame, np.uint8).reshape(h, w, 3) for frame in reader]
    assert [round(float(frame.mean()) / 20) for frame in played] == list(range(6))
    assert [p.name for p in path.parent.iterdir()] == ["dream.mp4"]


def test_gif_plays_at_its_speed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "dream.gif", ramp(5, 8, 8, 1), fps=20)
    frames = imageio.imread(path, index=None)
    assert frames.shape == (5, 256, 256, 3)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 20, 40, 60, 80]
    assert imageio.immeta(path)["duration"] == 50


def test_a_video_that_fails_leaves_the_old_one_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", ramp(2, 8, 8, 3))
    before = path.read_bytes()

    def fails(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("full")

    monkeypatch.setattr("reverie.report.video._write_mp4", fails)
    with pytest.raises(OSError, match="full"):
        write_video(path, ramp(2, 8, 8, 3))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"name it \.mp4 or \.gif"):
        write_video(tmp_path / "a.avi", ramp(2, 8, 8, 3))
    for frames in (ramp(2, 8, 8, 3)[0], ramp(2, 8, 8, 0), ramp(2, 8, 8, 3).astype(np.float32), ramp(2, 0, 8, 3)):
        with pytest.raises(ValueError, match="expected uint8 frames"):
            write_video(tmp_path / "a.mp4", frames)
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "a.mp4", ramp(0, 8, 8, 3))
    with pytest.raises(ValueError, match="fps"):
        write_video(tmp_path / "a.mp4", ramp(1, 8, 8, 3), fps=0)


def test_strip_puts_each_picture_in_its_place() -> None:
    first, second = ramp(3, 200, 100, 1), 255 - ramp(2, 200, 100, 3)
    sheet = strip([first, second], gap=4)
    assert sheet.shape == (404, 308, 3)
    for row, (pictures, top) in enumerate(((first, 0), (second, 204))):
        for t, picture in enumerate(pictures):
            place = sheet[top : top + 200, t * 104 : t * 104 + 100]
            assert (place == rgb(picture)).all(), (row, t)
    assert (sheet[200:204] == 255).all()
    assert (sheet[:, 100:104] == 255).all()
    assert (sheet[204:, 208:] == 255).all()
    with pytest.raises(ValueError, match="one size"):
        strip([ramp(1, 4, 4, 1), ramp(1, 4, 5, 1)])


def test_side_by_side_is_truth_dream_and_their_difference() -> None:
    truth = np.stack([ramp(4, 100, 300, 3), ramp(4, 100, 300, 3)])
    dream = truth + 10
    video = side_by_side(truth, dream, gap=0)
    assert video.shape == (4, 300, 600, 3)
    assert [int(frame[50, 10, 0]) for frame in video] == [0, 20, 40, 60]
    assert [int(frame[150, 310, 0]) for frame in video] == [10, 30, 50, 70]
    assert (video[:, 200:] == 132).all()  # (10 + 255) // 2
    assert (side_by_side(truth[0], dream[0], gap=0) == video[:, :, :300]).all()
    with pytest.raises(ValueError, match="one shape"):
        side_by_side(truth, dream[:, :2])


def test_difference_by_hand() -> None:
    truth = np.array([0, 255, 0, 100], np.uint8)
    dream = np.array([0, 0, 255, 103], np.uint8)
    assert difference(truth, dream).tolist() == [127, 0, 255, 129]


def test_enlarging_keeps_pixels_square() -> None:
    picture = np.array([[[0], [1]], [[2], [3]]], np.uint8)
    big = enlarge(picture, 5)
    assert big.shape == (6, 6, 1)
    assert (big[::3, ::3] == picture).all()
    assert (big[2::3, 2::3] == picture).all()
    assert enlarge(big, 6) is big


def test_images_come_back(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert (imageio.imread(write_image(tmp_path / "new" / "a.png", picture)) == picture).all()
    assert imageio.imread(write_image(tmp_path / "g.png", picture[..., :1])).shape == (7, 9, 3)
