"""Reverie's replay: the same rows as `replay_cpprb`, stored once; sequences are windows of them."""

import sys

import numpy as np
import torch
from replay_sizes import BATCH, CALLS, DRAWS, LENGTH, ROWS, SEQUENCES, STREAMS
from rounds import serve

import reverie
from reverie.data.replay import Replay
from reverie.data.rows import Field
from reverie.data.selectors import Prioritised, Uniform
from reverie.data.sequences import Feedback, SequenceSpec

FIELDS = {
    "obs.image": Field((84, 84), np.dtype(np.uint8)),
    "prev_action": Field((), np.dtype(np.int64)),
    "action": Field((), np.dtype(np.int64)),
    "reward": Field((), np.dtype(np.float32)),
    **{name: Field((), np.dtype(bool)) for name in ("is_first", "is_last", "is_terminal")},
}


def filled(replay):
    rng = np.random.default_rng(0)
    rows = {name: np.zeros((STREAMS, *field.shape), field.dtype) for name, field in FIELDS.items()}
    rows["obs.image"] = rng.integers(0, 255, rows["obs.image"].shape, np.uint8)
    for _ in range(replay.rows_per_stream + 1):
        replay.add(rows)
    return rows


def insert():
    replay = Replay(FIELDS, SequenceSpec(learn=LENGTH), STREAMS, None, Uniform(), 0, capacity=ROWS)
    rows = filled(replay)

    def work():
        for _ in range(CALLS):
            replay.add(rows)
        return CALLS * STREAMS

    return work


def sample():
    windows = SequenceSpec(learn=LENGTH, period=LENGTH)
    replay = Replay(FIELDS, windows, STREAMS, None, Prioritised(), 0, capacity=SEQUENCES * LENGTH)
    filled(replay)
    generator = torch.Generator().manual_seed(0)

    def work():
        for _ in range(DRAWS):
            batch = replay.sample(BATCH)
            replay.feedback(Feedback(batch.keys, torch.rand(BATCH, generator=generator)))
        return DRAWS * BATCH

    return work


torch.set_num_threads(int(sys.argv[2]))
serve({"insert": insert, "sample": sample}[sys.argv[1]](), version=reverie.__version__)
