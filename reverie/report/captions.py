"""Pictures for people with a line of text below."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reverie.report.video import enlarge, rgb

SIZE = 14
"""Height of the text in pixels."""
BAR = SIZE + 10
"""Height of the bar that it stands in."""


def picture(frame: np.ndarray) -> np.ndarray:
    """RGB of an array [H, W] or [H, W, C]: with 1 or 3 channels as it is, else its planes side by side in gray.

    Bytes stay; other numbers are scaled from their own range.
    """
    frame = np.asarray(frame)
    frame = frame[..., None] if frame.ndim == 2 else frame
    if frame.dtype != np.uint8:
        low, high = float(frame.min()), float(frame.max())
        frame = ((frame - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)
    return rgb(frame)


def captioned(frame: np.ndarray, text: str) -> np.ndarray:
    """RGB uint8 [H + bar, W, 3]: a frame uint8 [H, W, 3], enlarged until it is readable, above a bar with the text."""
    frame = enlarge(frame)
    height, width = frame.shape[:2]
    bar = Image.new("RGB", (width, BAR))
    ImageDraw.Draw(bar).text((5, 4), text, font=_font(), fill=(255, 255, 255))
    sheet = np.empty((height + BAR, width, 3), np.uint8)
    sheet[:height], sheet[height:] = frame, np.asarray(bar)
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SIZE)
