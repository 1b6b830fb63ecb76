"""Ways to draw a simulation, the same for every family that MuJoCo draws."""

from __future__ import annotations

from typing import Literal

import numpy as np

Render = Literal["published", "cheap", "smooth"]
"""``published``: shadows, reflections and multisampling as the model says. ``cheap``: none of them. ``smooth``: none of
them either, but drawn `FINER` times as high and wide and averaged, so that what is thinner than a pixel never vanishes
and every motion is seen, as with multisampling; in software that is much faster."""

FINER = 4
"""Drawn pixels along a side of one pixel of a smooth picture."""


def drawn_size(render: Render, size: int) -> int:
    """Pixels that are drawn for `size` pixels that are seen."""
    return size * FINER if render == "smooth" else size


def as_seen(render: Render, drawn: np.ndarray) -> np.ndarray:
    """The picture uint8 [H, W, 3] of what was drawn: itself, or the rounded mean of FINER x FINER pixels each."""
    if render != "smooth":
        return drawn
    height, width, colours = drawn.shape
    blocks = drawn.reshape(height // FINER, FINER, width // FINER, FINER, colours)
    total = blocks.sum((1, 3), dtype=np.uint16)
    return ((total + FINER * FINER // 2) // (FINER * FINER)).astype(np.uint8)
