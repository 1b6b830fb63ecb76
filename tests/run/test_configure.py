"""Words of a command line become a configuration."""

from __future__ import annotations

import pytest

from reverie.run.configure import configure


@pytest.mark.parametrize("agent", ["dqn", "drqn", "r2d2"])
def test_a_length_in_frames_replaces_one_in_env_steps(agent: str) -> None:
    preset = configure(agent, "cpu", "toy/catch", [], {}).run
    assert preset.env_steps is not None
    short = configure(agent, "cpu", "toy/catch", [], {"frames": "1500"}).run
    long_form = configure(agent, "cpu", "toy/catch", ["run.frames=1500"], {}).run
    assert short == long_form
    assert (short.frames, short.env_steps) == (1500, None)
    both = configure(agent, "cpu", "toy/catch", ["run.frames=1500", "run.env_steps=700"], {}).run
    assert both.env_steps == 700
