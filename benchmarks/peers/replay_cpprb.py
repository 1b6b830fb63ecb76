"""cpprb's replay: rows of several streams a call; prioritised sequences, each stored as one item."""

import sys
from importlib.metadata import version

import cpprb
import numpy as np
from replay_sizes import BATCH, CALLS, DRAWS, LENGTH, ROWS, SEQUENCES, STREAMS
from rounds import serve

FIELDS = {
    "image": {"shape": (84, 84), "dtype": np.uint8},
    "prev_action": {"dtype": np.int64},
    "action": {"dtype": np.int64},
    "reward": {"dtype": np.float32},
    "is_first": {"dtype": np.bool_},
    "is_last": {"dtype": np.bool_},
    "is_terminal": {"dtype": np.bool_},
}


def noise(fields, count):
    rng = np.random.default_rng(0)
    rows = {name: np.zeros((count, *field.get("shape", ())), field["dtype"]) for name, field in fields.items()}
    rows["image"] = rng.integers(0, 255, rows["image"].shape, np.uint8)
    return rows


def insert():
    buffer = cpprb.ReplayBuffer(ROWS, FIELDS)
    rows = noise(FIELDS, STREAMS)
    for _ in range(ROWS // STREAMS + 1):
        buffer.add(**rows)

    def work():
        for _ in range(CALLS):
            buffer.add(**rows)
        return CALLS * STREAMS

    return work


def sample():
    fields = {name: {**field, "shape": (LENGTH, *field.get("shape", ()))} for name, field in FIELDS.items()}
    buffer = cpprb.PrioritizedReplayBuffer(SEQUENCES, fields, alpha=0.6)
    rng = np.random.default_rng(0)
    rows = noise(fields, BATCH)
    for _ in range(SEQUENCES // BATCH):
        buffer.add(**rows, priorities=rng.random(BATCH))

    def work():
        for _ in range(DRAWS):
            drawn = buffer.sample(BATCH, 0.4)
            buffer.update_priorities(drawn["indexes"], rng.random(BATCH))
        return DRAWS * BATCH

    return work


serve({"insert": insert, "sample": sample}[sys.argv[1]](), version=version("cpprb"))
