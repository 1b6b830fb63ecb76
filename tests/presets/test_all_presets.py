"""Every preset of every agent keeps to the bounds of its own settings: as a run saves it, it can be loaded again."""

from __future__ import annotations

import pytest

from reverie import overrides
from reverie.agents import AGENTS
from reverie.presets import make_config, presets_of


@pytest.mark.parametrize("agent", AGENTS)
def test_every_preset_is_read_as_it_was_saved(agent: str) -> None:
    for preset in presets_of(agent):
        config = make_config(agent, preset, None)
        assert overrides.from_dict(config, overrides.to_dict(config)) == config
