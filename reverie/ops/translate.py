"""Pictures moved by fractions of pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def translated(images: Tensor, shift: Tensor) -> Tensor:
    """Images moved right and down by shifts, in pixels, between which they are interpolated; edges are continued.

    out[y, x] = in[y - shift_y, x - shift_x],   bilinear, with coordinates cut off at the first and last pixel.

    images: [N, C, H, W]. shift: [N, 2], right and down. Returns [N, C, H, W].
    Source: the augmentation of DreamerPro (Deng et al. 2022), its code.
    """
    height, width = images.shape[-2:]
    across = torch.arange(width, device=images.device) - shift[:, :1].float()
    down = torch.arange(height, device=images.device) - shift[:, 1:].float()
    # Of -1 .. 1, as grid_sample has its coordinates; a side of one pixel has one place only.
    x = across.clamp(0, width - 1) * (2 / max(width - 1, 1)) - 1
    y = down.clamp(0, height - 1) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x.unsqueeze(1).expand(-1, height, -1), y.unsqueeze(2).expand(-1, -1, width)], -1)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.to(images.dtype)
