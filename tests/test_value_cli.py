"""Command lines of the value-based agents as the documentation prints them."""

import shlex

import pytest

from reverie.run.configure import configure

PRINTED = "--agent.double --agent.dueling --replay.selector prioritised --agent.n_step 3"
TURNED = "--replay.selector=prioritised --agent.n-step=3 --agent.dueling --agent.double"


@pytest.mark.parametrize("words", [PRINTED, TURNED])
def test_parts_combine_on_the_command_line(words: str) -> None:
    config = configure("dqn", None, "ALE/Breakout-v5", tuple(shlex.split(words)), {})
    assert (config.agent.double, config.agent.dueling, config.agent.n_step) == (True, True, 3)
    assert config.replay.selector == "prioritised"
    assert config.env.id == "ALE/Breakout-v5"
