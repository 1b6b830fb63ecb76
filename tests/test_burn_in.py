"""What is left of a start state: exact stored states leave nothing, empty ones something that fades."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from benchmarks import burn_in
from reverie.agents.agent import Seat, Tape
from reverie.agents.q_policy import QPolicy
from reverie.agents.r2d2 import R2D2, R2D2Config
from reverie.data.chunks import chunk_path, write_chunk
from reverie.data.sequences import Chunk
from reverie.envs.env import EnvSpec
from reverie.nets.torsos import TorsoConfig

PERIOD, ROWS, BEGINS = 10, 400, 250
ENV = EnvSpec("test", {"image": spaces.Box(0, 255, (12, 12, 1), np.uint8)}, spaces.Discrete(3))


def fresh_policy() -> QPolicy:
    config = R2D2Config(torso=TorsoConfig(channels=(4, 4, 4), dense=8), units=8, hidden=8, stack=2)
    torch.manual_seed(0)
    return R2D2(config, ENV).policy()


def played(policy: QPolicy) -> Chunk:
    """Rows of one stream with the states that this policy has before every tenth of them."""
    rng = np.random.default_rng(1)
    rows = {
        "obs.image": rng.integers(0, 256, (ROWS, 12, 12, 1), np.uint8),
        "prev_action": rng.integers(0, 3, ROWS),
        "action": rng.integers(0, 3, ROWS),
        "reward": rng.standard_normal(ROWS).astype(np.float32),
        "is_first": np.isin(np.arange(ROWS), (0, BEGINS)),
        "is_last": np.arange(ROWS) == BEGINS - 1,
        "is_terminal": np.arange(ROWS) == BEGINS - 1,
    }
    state, kept = policy.initial_state(1), []
    with torch.inference_mode():
        for row in range(ROWS):
            if row % PERIOD == 0:
                kept.append(state)
            seen = {name: torch.from_numpy(value[row : row + 1]) for name, value in rows.items()}
            state = policy.step(state, seen, Tape(torch.zeros(1, policy.noise)), Seat.alone(1)).state
    states = {name: torch.cat([each[name] for each in kept]).numpy() for name in kept[0]}
    return Chunk(3, 0, rows, None, states)


def test_an_exact_state_leaves_no_error_and_an_empty_one_an_error_that_fades() -> None:
    policy = fresh_policy()
    found = burn_in.measure(policy, played(policy), PERIOD)
    # Windows of 41 rows begin at 100, 110, ... 350; an episode begins in those from 210 to 250.
    assert found["stored"]["error"].shape == found["zero"]["error"].shape == (26 - 5, burn_in.ROWS)
    assert found["stored"]["error"].max() == pytest.approx(0.0, abs=1e-6)
    error = found["zero"]["error"].mean(0)
    assert error[0] > 1e-3
    assert error[20] < error[0] / 10


def test_an_old_state_is_told_from_an_exact_one() -> None:
    policy = fresh_policy()
    chunk = played(policy)
    assert chunk.states is not None
    chunk.states["core.hidden"] = np.roll(chunk.states["core.hidden"], 1, 0)
    assert burn_in.measure(policy, chunk, PERIOD)["stored"]["error"][:, 0].mean() > 1e-3


def test_files_are_grouped_by_the_quarter_of_the_run_that_they_begin_in(tmp_path: Path) -> None:
    policy = fresh_policy()
    chunk = played(policy)
    for start in (0, 400, 1200):
        write_chunk(chunk_path(tmp_path, 3, start), Chunk(3, start, chunk.rows, None, chunk.states))
    groups = burn_in.choose(tmp_path, each=5)
    assert [[path.name[6:18] for path in group] for group in groups] == [
        ["000000000000"],
        ["000000000400"],
        [],
        ["000000001200"],
    ]


def test_errors_are_means_over_windows_relative_to_the_size_of_values() -> None:
    one = {"error": np.full((2, burn_in.ROWS), 0.5), "other": np.zeros((2, burn_in.ROWS), bool), "size": np.ones(2)}
    two = {"error": np.zeros((2, burn_in.ROWS)), "other": np.ones((2, burn_in.ROWS), bool), "size": np.full(2, 3.0)}
    group = burn_in.summed([one, two])
    assert (group["windows"], group["size"]) == (4, 2.0)
    assert group["other_action"] == [0.5] * burn_in.ROWS
    lines = burn_in.markdown({"starts": {"zero": group}})
    assert lines[2].startswith("| zero | 0.125 | 0.125 |")
