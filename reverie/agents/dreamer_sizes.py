"""Sizes of DreamerV3's networks, chosen by name: ``agent.size = 12M``, and then changed: ``agent.size.deter = 1024``.

The names are those of the published models. In the version of 2023 they are letters, since then parameters of the
networks for 64x64 pixels (without the slow critic; the largest differ from their names by up to 17 %).
"""

from __future__ import annotations

from dataclasses import dataclass

from reverie.values import Count


@dataclass(frozen=True)
class Size2023:
    """deter: width of h. units, layers: of all other layers. depth: channels of the first convolution.

    stoch, classes: of the latent.

    vector_layers, vector_units: of the MLPs that read and tell vectors, which have one size in all published ones.

    Source: github.com/danijar/dreamerv3 as of 2023 (tag of arXiv 2301.04104v1), configs.yaml: small to xlarge.
    """

    deter: Count = 4096
    units: Count = 1024
    depth: Count = 96
    layers: Count = 5
    stoch: Count = 32
    classes: Count = 32
    vector_layers: Count = 5
    vector_units: Count = 1024


@dataclass(frozen=True)
class S(Size2023):
    """Atari 100k, control."""

    deter: Count = 512
    units: Count = 512
    depth: Count = 32
    layers: Count = 2


@dataclass(frozen=True)
class M(Size2023):
    """Meta-world in HarmonyDream."""

    deter: Count = 1024
    units: Count = 640
    depth: Count = 48
    layers: Count = 3


@dataclass(frozen=True)
class L(Size2023):
    """Between M and XL."""

    deter: Count = 2048
    units: Count = 768
    depth: Count = 64
    layers: Count = 4


@dataclass(frozen=True)
class XL(Size2023):
    """Atari, Crafter, Minecraft."""


@dataclass(frozen=True)
class Tiny2023(Size2023):
    """Ours, for a processor."""

    deter: Count = 256
    units: Count = 128
    depth: Count = 8
    layers: Count = 2
    stoch: Count = 16
    classes: Count = 8
    vector_layers: Count = 2
    vector_units: Count = 128


SIZES_2023: dict[str, type[Size2023]] = {"tiny": Tiny2023, "S": S, "M": M, "L": L, "XL": XL}


@dataclass(frozen=True)
class Size:
    """deter, blocks: width of h, and its equal parts. hidden: of the layers around it. stoch, classes: of the latent.

    depth: channels of the convolutions in units of (2, 3, 4, 4). units: of heads, actor, critic and the MLPs of
    vectors.

    Source: github.com/danijar/dreamerv3, configs.yaml: size1m to size400m.
    """

    deter: Count = 8192
    hidden: Count = 1024
    classes: Count = 64
    depth: Count = 64
    units: Count = 1024
    stoch: Count = 32
    blocks: Count = 8


@dataclass(frozen=True)
class Tiny(Size):
    """Ours, for a processor."""

    deter: Count = 256
    hidden: Count = 64
    classes: Count = 8
    depth: Count = 4
    units: Count = 64
    stoch: Count = 16


@dataclass(frozen=True)
class M1(Size):
    """1M."""

    deter: Count = 512
    hidden: Count = 64
    classes: Count = 4
    depth: Count = 4
    units: Count = 64


@dataclass(frozen=True)
class M12(Size):
    """12M."""

    deter: Count = 2048
    hidden: Count = 256
    classes: Count = 16
    depth: Count = 16
    units: Count = 256


@dataclass(frozen=True)
class M25(Size):
    """25M."""

    deter: Count = 3072
    hidden: Count = 384
    classes: Count = 24
    depth: Count = 24
    units: Count = 384


@dataclass(frozen=True)
class M50(Size):
    """50M."""

    deter: Count = 4096
    hidden: Count = 512
    classes: Count = 32
    depth: Count = 32
    units: Count = 512


@dataclass(frozen=True)
class M100(Size):
    """100M."""

    deter: Count = 6144
    hidden: Count = 768
    classes: Count = 48
    depth: Count = 48
    units: Count = 768


@dataclass(frozen=True)
class M200(Size):
    """200M, the default."""


@dataclass(frozen=True)
class M400(Size):
    """400M."""

    deter: Count = 12288
    hidden: Count = 1536
    classes: Count = 96
    depth: Count = 96
    units: Count = 1536


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
