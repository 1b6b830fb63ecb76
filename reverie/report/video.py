"""Videos and picture grids: what an agent saw beside what it dreamed.

Frames are uint8 [..., H, W, C] with C = 1 (gray), 3 (RGB), or another number of planes, which stand side by side in
gray (a stack of frames, RGB and depth, one plane for each kind of object); everything here returns or writes RGB.
Small pictures are enlarged by whole factors with nearest neighbour, so that a pixel stays a square.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np

from reverie.errors import UserError

READABLE = 256
"""Pixels that the longer side of a picture has at least, after enlarging."""
GAP = 2
"""Pixels between pictures of a grid, before enlarging."""


def write_video(path: str | Path, frames: np.ndarray, fps: float = 15.0) -> Path:
    """Path of frames uint8 [T, H, W, C], written as ``.mp4`` (H.264, yuv420p, plays anywhere) or ``.gif``, by its name.

    Sides are made even by repeating the last row or column, as yuv420p needs. The file appears when it is complete.
    GIF counts in 1/100 s, so its speed is rounded.

    Raises UserError for another ending, ValueError for wrong frames, OSError when the disk is full.
    """
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"cannot write a video as {path.name!r}; name it .mp4 or .gif")
    frames = _film(frames, fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        if path.suffix == ".gif":
            partial.write_bytes(_gif(frames, fps))
        else:
            _write_mp4(partial, frames, fps)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def gif(frames: np.ndarray, fps: float = 15.0) -> bytes:
    """The bytes of a GIF of frames uint8 [T, H, W, C], enlarged as `write_video` does. Raises ValueError as it does."""
    return _gif(_film(frames, fps), fps)


def png(picture: np.ndarray) -> bytes:
    """The bytes of a PNG of uint8 [H, W, C], enlarged. Raises ValueError for another shape."""
    encoded: bytes = imageio.imwrite("<bytes>", enlarge(rgb(_checked(picture, 3))), extension=".png")
    return encoded


def _film(frames: np.ndarray, fps: float) -> np.ndarray:
    frames = _checked(frames, 4)
    if not len(frames):
        raise ValueError("a video needs at least one frame")
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    return enlarge(rgb(frames))


def _gif(frames: np.ndarray, fps: float) -> bytes:
    encoded: bytes = imageio.imwrite("<bytes>", frames, extension=".gif", duration=1000 / fps, loop=0)
    return encoded


class VideoWriter:
    """Video ``.mp4`` that is written frame by frame, in constant memory; it appears when it is closed.

    Frames are uint8 [H, W, 3], all of the first one's size. Raises UserError for another ending of the name, ValueError
    for wrong frames, OSError where it cannot be written.
    """

    def __init__(self, path: str | Path, fps: float = 15.0) -> None:
        self.path = Path(path)
        if self.path.suffix != ".mp4":
            raise UserError(f"cannot write a video as {self.path.name!r} frame by frame; name it .mp4")
        self._partial = self.path.with_name(f".partial-{self.path.name}")
        self._fps = fps
        self._writer: Generator[None, Any, None] | None = None
        self._shape: tuple[int, ...] = ()

    def add(self, frame: np.ndarray) -> None:
        """Write one more frame."""
        frame = _checked(frame, 3)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()  # a disk that cannot be written says so here, and not by a broken pipe
            self._shape = frame.shape
            height, width = frame.shape[:2]
            self._writer = _mp4_writer(self._partial, height + height % 2, width + width % 2, self._fps)
        if frame.shape != self._shape:
            raise ValueError(f"frames of a video must be of one size: {self._shape}, then {frame.shape}")
        self._writer.send(_even(frame))

    def close(self) -> None:
        """Finish the file; a video without frames leaves none. Twice is harmless."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
            self._partial.replace(self.path)

    def drop(self) -> None:
        """Leave no file, where what is shown was not played to its end. Nothing is done once it is closed."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with suppress(Exception):
                writer.close()
            self._partial.unlink(missing_ok=True)


def strip(rows: Sequence[np.ndarray], gap: int = GAP) -> np.ndarray:
    """A film strip: each row is uint8 [T, H, W, C], one picture per column. Returns uint8 [height, width, 3].

    Rows may differ in T (the rest stays white) but not in H and W. Raises ValueError otherwise.
    """
    pictures = [rgb(_checked(np.asarray(row), 4)) for row in rows]
    sizes = {row.shape[1:3] for row in pictures}
    if len(sizes) != 1:
        raise ValueError(f"the pictures of a strip must be of one size, got {sorted(sizes)}")
    height, width = next(iter(sizes))
    longest = max(len(row) for row in pictures)
    sheet = np.full((len(rows) * (height + gap) - gap, longest * (width + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(pictures):
        for t, picture in enumerate(row):
            top, left = r * (height + gap), t * (width + gap)
            sheet[top : top + height, left : left + width] = picture
    return enlarge(sheet)


def side_by_side(truth: np.ndarray, dream: np.ndarray, gap: int = GAP) -> np.ndarray:
    """Video of truth over dream over `difference`, one column per episode.

    truth, dream: uint8 [T, H, W, C] or [B, T, H, W, C], equal in shape. Returns uint8 [T, height, width, 3].
    Raises ValueError if the shapes differ.
    """
    if truth.shape != dream.shape:
        raise ValueError(f"truth and dream must have one shape, got {truth.shape} and {dream.shape}")
    if truth.ndim == 4:
        truth, dream = truth[None], dream[None]
    rows = [rgb(_checked(row, 5)) for row in (truth, dream, difference(truth, dream))]
    sheets = [strip([row[:, t] for row in rows], gap) for t in range(truth.shape[1])]
    return np.stack(sheets)


def difference(truth: np.ndarray, dream: np.ndarray) -> np.ndarray:
    """(dream - truth + 255) / 2 as uint8: gray (127) where they agree, brighter where the dream is too bright."""
    return ((dream.astype(np.int16) - truth.astype(np.int16) + 255) // 2).astype(np.uint8)


def write_image(path: str | Path, picture: np.ndarray) -> Path:
    """Path of uint8 [H, W, C], written as an image file (PNG by name) that is complete when it appears."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        imageio.imwrite(partial, rgb(_checked(picture, 3)), extension=path.suffix)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def rgb(frames: np.ndarray) -> np.ndarray:
    """Pixels [..., H, W, 3] of [..., H, W, 1 or 3]; of other numbers of channels the planes in gray, side by side."""
    planes = frames.shape[-1]
    if planes not in (1, 3):
        frames = np.concatenate([frames[..., plane : plane + 1] for plane in range(planes)], axis=-2)
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames


def enlarge(frames: np.ndarray, readable: int = READABLE) -> np.ndarray:
    """Pictures [..., H, W, C], enlarged by the smallest whole factor that gives the longer side `readable` pixels."""
    factor = -(-readable // max(frames.shape[-3:-1]))
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2) if factor > 1 else frames


def _checked(frames: np.ndarray, axes: int) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != axes or 0 in frames.shape[-3:]:
        raise ValueError(
            f"expected uint8 frames with {axes} axes ending in height, width and channels, "
            f"got {frames.dtype} {frames.shape}"
        )
    return frames


def _write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    height, width = frames.shape[1:3]
    writer = _mp4_writer(path, height + height % 2, width + width % 2, fps)
    try:
        for frame in frames:
            writer.send(_even(frame))
    finally:
        writer.close()


def _mp4_writer(path: Path, height: int, width: int, fps: float) -> Generator[None, Any, None]:
    """A started writer of frames with these even sides."""
    writer: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        quality=8,
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=["-f", "mp4", "-movflags", "+faststart"],
    )
    writer.send(None)
    return writer


def _even(frame: np.ndarray) -> np.ndarray:
    """A frame whose sides are even, its last row and column repeated."""
    return np.ascontiguousarray(np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge"))
