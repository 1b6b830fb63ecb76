"""stable-baselines3's DQN: updates of a small network, and Pong from end to end."""

import sys

import ale_py
import gymnasium
import stable_baselines3
import torch
from dqn_sizes import BATCH, EPSILON, HIDDEN, PONG_ROUND, PREFILL, REPLAY, UPDATES
from rounds import in_rounds, serve
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

SETTINGS = {
    "batch_size": BATCH,
    "learning_starts": PREFILL,
    "exploration_initial_eps": EPSILON,
    "exploration_final_eps": EPSILON,
    "device": "cpu",
    "seed": 0,
}


def mlp():
    policy = {"net_arch": [HIDDEN, HIDDEN]}
    model = DQN("MlpPolicy", gymnasium.make("CartPole-v1"), buffer_size=REPLAY, policy_kwargs=policy, **SETTINGS)
    model.learn(PREFILL)

    def work():
        model.train(UPDATES, BATCH)
        return UPDATES

    serve(work, version=stable_baselines3.__version__)


def pong():
    gymnasium.register_envs(ale_py)
    options = {"frameskip": 1, "repeat_action_probability": 0.0}
    env = VecFrameStack(make_atari_env("ALE/Pong-v5", n_envs=1, seed=0, env_kwargs=options), 4)
    model = DQN("CnnPolicy", env, buffer_size=REPLAY, train_freq=4, target_update_interval=1000, **SETTINGS)

    def run(each):
        class Pace(BaseCallback):
            def _on_step(self):
                each()
                return True

        model.learn(10**9, callback=Pace())

    in_rounds(run, PONG_ROUND, PREFILL + PONG_ROUND, version=stable_baselines3.__version__)


torch.set_num_threads(int(sys.argv[2]))
{"mlp": mlp, "pong": pong}[sys.argv[1]]()
