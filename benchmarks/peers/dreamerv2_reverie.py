"""Reverie's DreamerV2 at the sizes of `dreamerv2_sheeprl`: its learner's update of one batch."""

import sys

import torch
from dreamer_sizes import ACTIONS, IMAGE, LAST, SHAPES
from rounds import serve

import reverie
from benchmarks.learner import build
from benchmarks.timing import make_batch
from reverie.run.allocator import prepare_process

TIME, BATCH = SHAPES[sys.argv[1]]
prepare_process(int(sys.argv[2]))
learner = build(torch.device("cpu"), torch.float32, learn=TIME)
batch = make_batch((TIME, BATCH), (IMAGE, IMAGE, 3), ACTIONS, last=LAST, fresh=True)


def work():
    learner.update(batch)
    return 1


numbers = sum(p.numel() for group in learner.optimisers.values() for p in group.parameters)
serve(work, version=reverie.__version__, parameters=numbers)
