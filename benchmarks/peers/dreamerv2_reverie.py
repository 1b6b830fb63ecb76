"""Reverie's DreamerV2 at the sizes of `dreamerv2_sheeprl`: its learner's update of one batch."""

import sys

import numpy as np
import torch
from dreamer_sizes import ACTIONS, CLASSES, DEPTH, DETER, HIDDEN, HORIZON, IMAGE, LAST, LATENTS, LAYERS, SHAPES, UNITS
from gymnasium import spaces
from rounds import serve

import reverie
from benchmarks.timing import make_batch
from reverie.agents.dreamerv2 import DreamerV2, DreamerV2Config
from reverie.data.sequences import SequenceSpec
from reverie.envs.env import EnvSpec
from reverie.nets.encoders import EncoderConfig
from reverie.nets.heads import HeadConfig
from reverie.nets.rssm import RSSMConfig
from reverie.run.allocator import prepare_process

TIME, BATCH = SHAPES[sys.argv[1]]
head, code = HeadConfig(layers=LAYERS, units=UNITS), EncoderConfig(depth=DEPTH)
config = DreamerV2Config(
    encoder=code,
    decoder=code,
    rssm=RSSMConfig(deter=DETER, hidden=HIDDEN, stoch=LATENTS, classes=CLASSES),
    reward=head,
    discount=head,
    actor=head,
    critic=head,
    horizon=HORIZON,
)

prepare_process(int(sys.argv[2]))
torch.manual_seed(0)
image = (IMAGE, IMAGE, 3)
agent = DreamerV2(config, EnvSpec("race", {"image": spaces.Box(0, 255, image, np.uint8)}, spaces.Discrete(ACTIONS)))
learner = agent.learner(agent.policy(), agent.windows(SequenceSpec(learn=TIME)))
batch = make_batch((TIME, BATCH), image, ACTIONS, last=LAST, fresh=True)


def work():
    learner.update(batch)
    return 1


numbers = sum(p.numel() for group in learner.optimisers.values() for p in group.parameters)
serve(work, version=reverie.__version__, parameters=numbers)
