"""The selectors by name: uniform, online, recency-weighted, prioritised, first-in first-out, favoured episode ends."""

from __future__ import annotations

from reverie.data.episode_ends import EpisodeEnds, EpisodeEndsConfig
from reverie.data.episode_starts import EpisodeStarts, EpisodeStartsConfig
from reverie.data.fifo import Fifo, FifoConfig
from reverie.data.online import Online, OnlineConfig
from reverie.data.prioritised import Prioritised, PrioritisedConfig
from reverie.data.recency import Recency, RecencyConfig
from reverie.data.selector import Drawn, Layout, Selector, SelectorConfig
from reverie.data.uniform import Uniform, UniformConfig

__all__ = [
    "SELECTORS",
    "Drawn",
    "EpisodeEnds",
    "EpisodeEndsConfig",
    "EpisodeStarts",
    "EpisodeStartsConfig",
    "Fifo",
    "FifoConfig",
    "Layout",
    "Online",
    "OnlineConfig",
    "Prioritised",
    "PrioritisedConfig",
    "Recency",
    "RecencyConfig",
    "Selector",
    "SelectorConfig",
    "Uniform",
    "UniformConfig",
]

SELECTORS: dict[str, type[SelectorConfig]] = {
    "uniform": UniformConfig,
    "ends": EpisodeEndsConfig,
    "episodes": EpisodeStartsConfig,
    "recency": RecencyConfig,
    "prioritised": PrioritisedConfig,
    "fifo": FifoConfig,
    "online": OnlineConfig,
}
"""name -> settings of every selector: what ``replay.selector`` may be."""
