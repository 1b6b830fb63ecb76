"""DreamerV3's pictures: shapes, one stage by hand, and which block draws which channels."""

import pytest
import torch
from torch.nn import functional as F

from reverie.nets.encoders import EncoderConfig
from reverie.nets.pooled import PooledDecoder, PooledEncoder, channels_of

CONFIG = EncoderConfig(depth=2)


@pytest.mark.parametrize(
    ("side", "channels", "left"),
    [
        (64, [4, 6, 8, 8], 4),
        (96, [4, 6, 8, 8], 6),
        (32, [4, 6, 8], 4),
        (20, [4, 8], 5),
        (8, [8], 4),
        (84, [4, 6, 8, 8], 6),
    ],
)
def test_sizes(side: int, channels: list[int], left: int) -> None:
    """64 and 96 as published; others are padded, have fewer stages and always end with 4 depth channels."""
    assert channels_of(2, side, side) == channels
    encoder = PooledEncoder((side, side, 3), CONFIG)
    assert encoder.outputs == 8 * left * left
    assert encoder(torch.randn(2, 3, side, side)).shape == (2, encoder.outputs)
    decoder = PooledDecoder(8, 5, (side, side, 3), 2, 4, 4)
    out = decoder(torch.randn(2, 13))
    assert out.shape == (2, 3, side, side)
    assert out.abs().max() <= 0.5


def test_a_stage_is_convolution_maximum_norm_silu() -> None:
    torch.manual_seed(0)
    encoder = PooledEncoder((4, 8, 1), CONFIG)
    x = torch.randn(1, 1, 4, 8)
    y = F.conv2d(F.pad(x, (2, 2, 2, 2)), encoder.convs[0].weight, encoder.convs[0].bias)
    y = y.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    y = y / (y.square().mean(1, keepdim=True) + 1e-4).sqrt()
    assert torch.allclose(encoder(x), (y * y.sigmoid()).flatten(1), atol=1e-5)


def test_every_block_of_h_draws_its_own_channels() -> None:
    torch.manual_seed(0)
    decoder = PooledDecoder(8, 5, (64, 64, 1), 2, 4, 4)
    seen: list[torch.Tensor] = []
    decoder.norms[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 13)
    decoder(x)
    x[0, 2:4] += 1.0  # the second of four blocks
    decoder(x)
    moved = (seen[1] - seen[0]).abs().amax((0, 2, 3)) > 0
    assert moved.tolist() == [False, False, True, True, False, False, False, False]
    x[0, 8:] += 1.0
    decoder(x)
    assert ((seen[2] - seen[1]).abs().amax((0, 2, 3)) > 0).all()


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match="4 depth must be a multiple of the 8 blocks, got a depth of 3"):
        PooledDecoder(8, 5, (64, 64, 1), 3, 4, 8)
    with pytest.raises(ValueError, match="images need both sides >= 4, got 3x64"):
        PooledEncoder((3, 64, 1), CONFIG)
