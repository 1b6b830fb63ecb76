"""Sizes of TD-MPC2's networks, chosen by name: ``agent.size = 1M``, and then changed: ``agent.size.units = 256``.

The names are those of the published models: parameters, roughly, without the slow critics.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """encoder_units: of the hidden layers of the encoder of vectors.
    encoder_layers: of that encoder; the last one makes the latent, at least one more is hidden.
    units: of dynamics, reward, prior and critics, two hidden layers each. latent: numbers in a latent of vectors.
    critics: how many there are. channels: of each convolution of the encoder of images.

    Source: github.com/nicklashansen/tdmpc2, common/__init__.py (MODEL_SIZE) and config.yaml: 1, 5, 19, 48, 317.
    """

    encoder_units: int = 256
    encoder_layers: int = 2
    units: int = 512
    latent: int = 512
    critics: int = 5
    channels: int = 32

    def __post_init__(self) -> None:
        for name in ("encoder_units", "encoder_layers", "units", "latent", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.critics < 2:
            raise ValueError(f"critics must be at least 2, of which two are drawn, got {self.critics}")


@dataclass(frozen=True)
class M1(Size):
    """1M."""

    units: int = 384
    latent: int = 128
    critics: int = 2


@dataclass(frozen=True)
class M5(Size):
    """5M, the default."""


@dataclass(frozen=True)
class M19(Size):
    """19M."""

    encoder_units: int = 1024
    encoder_layers: int = 3
    units: int = 1024
    latent: int = 768


@dataclass(frozen=True)
class M48(Size):
    """48M."""

    encoder_units: int = 1792
    encoder_layers: int = 4
    units: int = 1792
    latent: int = 768


@dataclass(frozen=True)
class M317(Size):
    """317M."""

    encoder_units: int = 4096
    encoder_layers: int = 5
    units: int = 4096
    latent: int = 1376
    critics: int = 8


@dataclass(frozen=True)
class Tiny(Size):
    """Ours, for a processor."""

    encoder_units: int = 64
    units: int = 128
    latent: int = 64
    critics: int = 2
    channels: int = 16


SIZES: dict[str, type[Size]] = {"tiny": Tiny, "1M": M1, "5M": M5, "19M": M19, "48M": M48, "317M": M317}
