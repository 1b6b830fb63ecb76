"""sheeprl's DreamerV2: its training step on one batch, as its own loop calls it, without metrics."""

import importlib.metadata
import sys

import gymnasium
import numpy as np
import torch
from dreamer_sizes import ACTIONS, CLASSES, DEPTH, DETER, HIDDEN, HORIZON, IMAGE, LAST, LATENTS, LAYERS, SHAPES, UNITS
from hydra import compose, initialize_config_module
from lightning import Fabric
from omegaconf import OmegaConf
from rounds import serve
from sheeprl.algos.dreamer_v2.agent import build_agent
from sheeprl.algos.dreamer_v2.dreamer_v2 import train
from sheeprl.algos.dreamer_v2.utils import build_optimizer
from sheeprl.utils.utils import dotdict

TIME, BATCH = SHAPES[sys.argv[1]]
SETTINGS = [
    "exp=dreamer_v2",
    "env=dummy",
    f"algo.horizon={HORIZON}",
    f"algo.dense_units={UNITS}",
    f"algo.mlp_layers={LAYERS}",
    f"algo.world_model.discrete_size={CLASSES}",
    f"algo.world_model.stochastic_size={LATENTS}",
    f"algo.world_model.encoder.cnn_channels_multiplier={DEPTH}",
    f"algo.world_model.recurrent_model.recurrent_state_size={DETER}",
    f"algo.world_model.transition_model.hidden_size={HIDDEN}",
    f"algo.world_model.representation_model.hidden_size={HIDDEN}",
    "algo.world_model.use_continues=True",
]

torch.set_num_threads(int(sys.argv[2]))
torch.manual_seed(0)
with initialize_config_module("sheeprl.configs", version_base="1.3"):
    cfg = dotdict(OmegaConf.to_container(compose("config", SETTINGS), resolve=True))
torch.distributions.Distribution.set_default_validate_args(cfg.distribution.validate_args)  # as its command does
fabric = Fabric(accelerator="cpu", devices=1)
fabric.launch()
space = gymnasium.spaces.Dict({"rgb": gymnasium.spaces.Box(0, 255, (3, IMAGE, IMAGE), np.uint8)})
world_model, actor, critic, target, _ = build_agent(fabric, (ACTIONS,), False, cfg, space)
parts = ((cfg.algo.world_model, world_model), (cfg.algo.actor, actor), (cfg.algo.critic, critic))
optimisers = fabric.setup_optimizers(*(build_optimizer(own.optimizer, part.parameters()) for own, part in parts))

ends = (torch.rand(TIME, BATCH, 1) < LAST).float()
batch = {
    "rgb": torch.randint(0, 256, (TIME, BATCH, 3, IMAGE, IMAGE), dtype=torch.uint8),
    "actions": torch.nn.functional.one_hot(torch.randint(0, ACTIONS, (TIME, BATCH)), ACTIONS).float(),
    "rewards": torch.randn(TIME, BATCH, 1),
    "terminated": ends,
    "truncated": torch.zeros_like(ends),
    "is_first": torch.cat([torch.ones_like(ends[:1]), ends[:-1]]),
}


def work():
    train(fabric, world_model, actor, critic, target, *optimisers, dict(batch), None, cfg, (ACTIONS,))
    return 1


numbers = sum(p.numel() for _, part in parts for p in part.parameters())
serve(work, version=importlib.metadata.version("sheeprl"), parameters=numbers)
