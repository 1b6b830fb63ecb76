"""Reverie's DQN with the settings of `dqn_sb3`: updates of a small network, and Pong from end to end."""

import sys
import tempfile
from pathlib import Path

import torch
from dqn_sizes import BATCH, EPSILON, HIDDEN, PONG_ROUND, PREFILL, UPDATES
from rounds import in_rounds, serve

import reverie
from reverie.data.limiter import Limiter
from reverie.overrides import apply
from reverie.presets import make_config
from reverie.run.local import Local
from reverie.run.lock import interruptible
from reverie.run.train import train

SETTINGS = {
    "env.num_envs": 1,
    "agent.n_step": 1,
    "agent.double": False,
    "agent.dueling": False,
    "agent.explore.start": EPSILON,
    "agent.explore.end": EPSILON,
    "replay.batch": BATCH,
    "run.prefill": PREFILL,
    "run.env_steps": 10**8,
    "run.log_every": 10**8,
    "run.checkpoint_every": 10**8,
    "run.eval_every": 0,
    "run.threads": int(sys.argv[2]),
}


def mlp(folder):
    own = {
        "replay.selector": "uniform",
        "replay.store.budget": "4MB",
        "agent.stack": 1,
        "agent.hidden": HIDDEN,
        "agent.torso.units": HIDDEN,
        "agent.torso.layers": 1,
        "agent.torso.standardise": False,
    }
    runner = Local(apply(make_config("dqn", "cpu", "CartPole-v1"), SETTINGS | own), folder)

    def work():
        runner.trainer.learn(UPDATES)
        return UPDATES

    with interruptible() as stop, runner.run.heeding(stop):
        runner.start()
        for _ in range(PREFILL):
            runner.act()
        runner.store.limiter = Limiter(None, 0)
        serve(work, version=reverie.__version__)


def pong(folder):
    own = {"env.options.full_actions": False, "replay.store.budget": "500MB", "run.train_ratio": BATCH / 4}

    def run(each):
        class Pace(reverie.Callback):
            def round(self, run):
                each()

        config = apply(make_config("dqn", "cpu", "ALE/Pong-v5"), SETTINGS | own)
        train(config, folder / "run", callbacks=[Pace()])

    in_rounds(run, PONG_ROUND, PREFILL + PONG_ROUND, version=reverie.__version__)


torch.set_num_threads(int(sys.argv[2]))
with tempfile.TemporaryDirectory() as place:
    {"mlp": mlp, "pong": pong}[sys.argv[1]](Path(place))
