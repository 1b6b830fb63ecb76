"""Images of fewer bits: shades by hand, the noise within a shade, and what leaves other encoders as they were."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from reverie.nets.encoders import Encoder, EncoderConfig, pixels, quantised

SPACES = {
    "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "vector": spaces.Box(-1, 1, (2,), np.float32),
    "other": spaces.Box(0, 255, (4, 6, 1), np.uint8),
}


def encoder(bits: int) -> Encoder:
    torch.manual_seed(0)
    return Encoder(SPACES, EncoderConfig(depth=2, layers=1, units=4, bits=bits))


def observed(lead: tuple[int, ...] = (3, 2)) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    obs = {
        key: torch.randint(0, 256, (*lead, *SPACES[key].shape), generator=g, dtype=torch.uint8)
        for key in ("image", "other")
    }
    return obs | {"vector": torch.randn(*lead, 2, generator=g)}


def test_shades_by_hand() -> None:
    """Of 5 bits: eight values of a byte share a shade, whose middle is (k + 1/2) / 32 - 1/2."""
    image = torch.tensor([0, 7, 8, 127, 128, 255], dtype=torch.uint8).view(6, 1, 1)
    middles = quantised(image, 5).flatten().tolist()
    assert middles == pytest.approx([(k + 0.5) / 32 - 0.5 for k in (0, 0, 1, 15, 16, 31)])
    assert quantised(torch.zeros(2, 5, 4, 3, dtype=torch.uint8), 5).shape == (2, 3, 5, 4)
    assert sorted(set(quantised(image, 1).flatten().tolist())) == [-0.25, 0.25]


def test_noise_fills_a_shade_and_no_more() -> None:
    """x = floor(p / 8) / 32 + u / 32 - 1/2, by its own number for every pixel of every image."""
    made, obs = encoder(5), observed()
    assert made.noise == 8 * 8 * 3 + 4 * 6
    u = torch.rand(3, 2, made.noise, generator=torch.Generator().manual_seed(2))
    moved = made.dequantise(made.prepare(obs), u)
    start = 0
    for key in ("image", "other"):
        height, width, channels = SPACES[key].shape
        own = u[..., start : start + height * width * channels].view(3, 2, channels, height, width)
        shade = (obs[key].movedim(-1, -3) // 8).float()
        assert torch.allclose(moved[key], shade / 32 + own / 32 - 0.5, atol=1e-6)
        start += height * width * channels
    assert torch.equal(moved["vector"], obs["vector"])


def test_the_middle_is_noise_of_one_half_and_is_told_within_its_shade() -> None:
    made, obs = encoder(5), observed()
    prepared = made.prepare(obs)
    still = made.dequantise(prepared, torch.full((3, 2, made.noise), 0.5))
    assert all(torch.allclose(still[key], value, atol=1e-7) for key, value in prepared.items())
    told = made.restore(prepared)["image"]
    assert torch.equal(told // 8, obs["image"] // 8)


def test_all_bits_are_as_before_and_take_no_noise() -> None:
    made, obs = encoder(8), observed()
    assert made.noise == 0
    prepared = made.prepare(obs)
    assert torch.equal(prepared["image"], pixels(obs["image"]))
    same = made.dequantise(prepared, torch.empty(3, 2, 0))
    assert all(same[key] is value for key, value in prepared.items())


def test_bits_are_checked() -> None:
    for bits in (0, 9):
        with pytest.raises(ValueError, match="bits of an image must be from 1 to 8"):
            EncoderConfig(bits=bits)
