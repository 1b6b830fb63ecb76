"""Sizes of DreamerV3's networks, chosen by name: ``agent.size = 12M``, and then changed: ``agent.size.deter = 1024``.

The names are those of the published models. In the version of 2023 they are letters, since then parameters of the
networks for 64x64 pixels (without the slow critic; the largest differ from their names by up to 17 %).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size2023:
    """deter: width of h. units, layers: of all other layers. depth: channels of the first convolution.

    stoch, classes: of the latent.

    vector_layers, vector_units: of the MLPs that read and tell vectors, which have one size in all published ones.

    Source: github.com/danijar/dreamerv3 as of 2023 (tag of arXiv 2301.04104v1), configs.yaml: small to xlarge.
    """

    deter: int = 4096
    units: int = 1024
    depth: int = 96
    layers: int = 5
    stoch: int = 32
    classes: int = 32
    vector_layers: int = 5
    vector_units: int = 1024


@dataclass(frozen=True)
class S(Size2023):
    """Atari 100k, control."""

    deter: int = 512
    units: int = 512
    depth: int = 32
    layers: int = 2


@dataclass(frozen=True)
class M(Size2023):
    """Meta-world in HarmonyDream."""

    deter: int = 1024
    units: int = 640
    depth: int = 48
    layers: int = 3


@dataclass(frozen=True)
class L(Size2023):
    """Between M and XL."""

    deter: int = 2048
    units: int = 768
    depth: int = 64
    layers: int = 4


@dataclass(frozen=True)
class XL(Size2023):
    """Atari, Crafter, Minecraft."""


@dataclass(frozen=True)
class Tiny2023(Size2023):
    """Ours, for a processor."""

    deter: int = 256
    units: int = 128
    depth: int = 8
    layers: int = 2
    stoch: int = 16
    classes: int = 8
    vector_layers: int = 2
    vector_units: int = 128


SIZES_2023: dict[str, type[Size2023]] = {"tiny": Tiny2023, "S": S, "M": M, "L": L, "XL": XL}


@dataclass(frozen=True)
class Size:
    """deter, blocks: width of h, and its equal parts. hidden: of the layers around it. stoch, classes: of the latent.

    depth: channels of the convolutions in units of (2, 3, 4, 4). units: of heads, actor, critic and the MLPs of
    vectors.

    Source: github.com/danijar/dreamerv3, configs.yaml: size1m to size400m.
    """

    deter: int = 8192
    hidden: int = 1024
    classes: int = 64
    depth: int = 64
    units: int = 1024
    stoch: int = 32
    blocks: int = 8


@dataclass(frozen=True)
class Tiny(Size):
    """Ours, for a processor."""

    deter: int = 256
    hidden: int = 64
    classes: int = 8
    depth: int = 4
    units: int = 64
    stoch: int = 16


@dataclass(frozen=True)
class M1(Size):
    """1M."""

    deter: int = 512
    hidden: int = 64
    classes: int = 4
    depth: int = 4
    units: int = 64


@dataclass(frozen=True)
class M12(Size):
    """12M."""

    deter: int = 2048
    hidden: int = 256
    classes: int = 16
    depth: int = 16
    units: int = 256


@dataclass(frozen=True)
class M25(Size):
    """25M."""

    deter: int = 3072
    hidden: int = 384
    classes: int = 24
    depth: int = 24
    units: int = 384


@dataclass(frozen=True)
class M50(Size):
    """50M."""

    deter: int = 4096
    hidden: int = 512
    classes: int = 32
    depth: int = 32
    units: int = 512


@dataclass(frozen=True)
class M100(Size):
    """100M."""

    deter: int = 6144
    hidden: int = 768
    classes: int = 48
    depth: int = 48
    units: int = 768


@dataclass(frozen=True)
class M200(Size):
    """200M, the default."""


@dataclass(frozen=True)
class M400(Size):
    """400M."""

    deter: int = 12288
    hidden: int = 1536
    classes: int = 96
    depth: int = 96
    units: int = 1536


SIZES: dict[str, type[Size]] = {
    "tiny": Tiny,
    "1M": M1,
    "12M": M12,
    "25M": M25,
    "50M": M50,
    "100M": M100,
    "200M": M200,
    "400M": M400,
}
