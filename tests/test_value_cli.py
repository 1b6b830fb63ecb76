"""Command lines of the value-based agents as the documentation prints them."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reverie.data.selectors import PrioritisedConfig
from reverie.run.saved_config import load_config

PRINTED = "--agent.double --agent.dueling --replay.selector prioritised --agent.n_step 3 --env toy/catch"
TURNED = "--replay.selector=prioritised --env toy/catch --agent.n-step=3 --agent.dueling --agent.double"


@pytest.mark.parametrize("words", [PRINTED, TURNED])
def test_parts_combine_on_the_command_line(words: str, tmp_path: Path) -> None:
    short = "--env_steps 20 --run.prefill 10 --run.eval_episodes=0"
    command = f"train dqn {words} --logdir {shlex.quote(str(tmp_path / 'run'))} {short}"
    subprocess.run([sys.executable, "-m", "reverie.cli", *shlex.split(command)], check=True, stdout=subprocess.DEVNULL)
    config = load_config(tmp_path / "run")
    assert (config.agent.double, config.agent.dueling, config.agent.n_step) == (True, True, 3)
    assert config.replay.selector == PrioritisedConfig()
    assert config.env.id == "toy/catch"
