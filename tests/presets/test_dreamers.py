"""Presets of PlaNet, Dreamer V1, RePo, Denoised MDP: published numbers."""

import math
from typing import Any

import pytest

from reverie.presets import make_config
from reverie.presets.parts import REPEATS

AGENTS = ("planet", "dreamerv1", "repo", "denoised")
PUBLISHED: dict[tuple[str, str], dict[str, Any]] = {
    # Hafner et al. 2020 as released: github.com/danijar/dreamer, define_config and models.py
    ("dreamerv1", "dmc-vision"): {
        "agent.encoder.depth": 32,
        "agent.encoder.act": "relu",
        "agent.rssm.deter": 200,
        "agent.rssm.hidden": 200,
        "agent.rssm.stoch": 30,
        "agent.rssm.act": "elu",
        "agent.rssm.std": "softplus",
        "agent.rssm.cell": "reset_after",
        "agent.reward.layers": 2,
        "agent.discount.layers": 3,
        "agent.critic.layers": 3,
        "agent.actor.layers": 4,
        "agent.actor.units": 400,
        "agent.continuous": "tanh_normal",
        "agent.init_std": 5.0,
        "agent.min_std": 1e-4,
        "agent.samples": 100,
        "agent.predict_discount": False,
        "agent.kl_balance": None,
        "agent.kl_free": 3.0,
        "agent.kl_free_per": "mean",
        "agent.kl_scale": 1.0,
        "agent.gamma": 0.99,
        "agent.lam": 0.95,
        "agent.horizon": 15,
        "agent.model_opt.lr": 6e-4,
        "agent.actor_opt.lr": 8e-5,
        "agent.critic_opt.lr": 8e-5,
        "agent.model_opt.eps": 1e-7,
        "agent.model_opt.clip": 100.0,
        "agent.model_opt.shrink": 0.0,
        "agent.explore.amount": 0.3,
        "agent.explore.half": 0,
        "replay.batch": 50,
        "replay.window.learn": 50,
        "run.frames": 5_000_000,
        "run.prefill": 5000 // 2,
        "run.pretrain": 100,
        "run.train_ratio": 100 * 50 * 50 / (1000 / 2),
    },
    ("dreamerv1", "atari"): {
        "agent.kl_scale": 0.1,
        "agent.predict_discount": True,
        "agent.discount_scale": 10.0,
        "agent.horizon": 10,
        "agent.explore.amount": 0.4,
        "agent.explore.half": 100_000 // 4,
        "agent.explore.least": 0.1,
        "env.options": {"grayscale": False, "life_loss": True},
        "run.train_ratio": 100 * 50 * 50 / (1000 / 4),
    },
    # Zhu et al. 2023 as released: github.com/zchuning/repo, experiments/train_repo.py and algorithms/repo
    ("repo", "dmc-vision"): {
        "agent.encoder.depth": 32,
        "agent.encoder.act": "relu",
        "agent.rssm.deter": 200,
        "agent.rssm.hidden": 200,
        "agent.rssm.stoch": 30,
        "agent.rssm.act": "elu",
        "agent.rssm.std": "softplus",
        "agent.rssm.cell": "reset_after",
        "agent.reward.layers": 3,
        "agent.reward.units": 200,
        "agent.critic.layers": 3,
        "agent.critic.units": 200,
        "agent.actor.layers": 4,
        "agent.actor.units": 200,
        "agent.init_std": math.log(2),  # softplus^-1 of it is 0
        "agent.min_std": 0.1,
        "agent.samples": 100,
        "agent.target_kl": 3.0,
        "agent.beta_start": 1e-5,
        "agent.beta_opt.lr": 1e-4,
        "agent.beta_opt.clip": math.inf,
        "agent.kl_balance": 5 / (1 + 5),
        "agent.kl_free": 0.0,
        "agent.grad_heads": ("reward", "discount"),
        "agent.predict_discount": False,
        "agent.gamma": 0.99,
        "agent.lam": 0.95,
        "agent.horizon": 15 - 1,
        "agent.entropy": 3e-4,
        "agent.explore.amount": 0.0,
        "agent.model_opt.lr": 3e-4,
        "agent.actor_opt.lr": 8e-5,
        "agent.critic_opt.lr": 8e-5,
        "agent.model_opt.eps": 1e-8,
        "agent.model_opt.clip": 100.0,
        "agent.model_opt.shrink": 0.0,
        "replay.batch": 50,
        "replay.window.learn": 50,
        "run.frames": 2 * (500_000 + 5000),
        "run.prefill": 5000,
        "run.pretrain": 100,
        "run.train_ratio": 100 * 50 * 50 / 500,
    },
    # Wang et al. 2022 as released: github.com/facebookresearch/denoised_mdp, config.py and denoised_mdp/agents
    ("denoised", "dmc-vision"): {
        "agent.rssm.deter": 120,
        "agent.rssm.hidden": 120,
        "agent.rssm.stoch": 20,
        "agent.rssm.std": "softplus",
        "agent.rssm.cell": "reset_after",
        "agent.y.deter": 120,
        "agent.y.stoch": 20,
        "agent.z.deter": 0,
        "agent.z_reads_y": True,
        "agent.kl_scale": 1.0,
        "agent.kl_free": 3.0,
        "agent.kl_free_per": "each",
        "agent.kl_balance": None,
        "agent.beta_x": 1.0,
        "agent.beta_y": 0.25,
        "agent.beta_z": 0.25,
        "agent.beta_free": None,
        "agent.reward.layers": 2,
        "agent.reward.units": 400,
        "agent.actor.units": 400,
        "agent.gamma": 0.99,
        "agent.lam": 0.95,
        "agent.horizon": 15,
        "agent.model_opt.lr": 6e-4,
        "agent.model_opt.eps": 1e-7,
        "agent.model_opt.clip": 100.0,
        "agent.actor_opt.lr": 8e-5,
        "agent.critic_opt.lr": 8e-5,
        "agent.explore.amount": 0.3,
        "replay.batch": 50,
        "replay.window.learn": 50,
        "run.frames": 1_000_000,
        "run.prefill": 5000 // 2,
        "run.train_ratio": 100 * 50 * 50 / (1000 / 2),
        "run.eval_every": 10_000 // 2,
        "run.eval_episodes": 10,
    },
    # Hafner et al. 2019 as released: github.com/google-research/planet, configs.py, tasks.py
    ("planet", "dmc-vision"): {
        "agent.encoder.bits": 5,
        "agent.encoder.depth": 32,
        "agent.rssm.deter": 200,
        "agent.rssm.stoch": 30,
        "agent.rssm.act": "relu",
        "agent.rssm.cell": "reset_before",
        "agent.rssm.std": "softplus",
        "agent.reward.units": 100,
        "agent.reward_scale": 10.0,
        "agent.kl_free": 3.0,
        "agent.kl_free_per": "each",
        "agent.overshooting": 0,
        "agent.plan.candidates": 1000,
        "agent.plan.horizon": 12,
        "agent.model_opt.lr_end": 1e-3,
        "agent.model_opt.lr_over": 10_000 // 50,
        "agent.model_opt.eps": 1e-4,
        "agent.model_opt.clip": 1000.0,
        "env.options": {"action_repeat": 8},
        "replay.batch": 50,
        "replay.window.learn": 50,
        "run.prefill": 5 * 125,
        "run.train_ratio": 100 * 50 * 50 / 125,
    },
}


PUBLISHED["dreamerv2", "atari"] = {
    # github.com/danijar/dreamerv2, configs.yaml: defaults and atari
    "agent.rssm.deter": 600,
    "agent.rssm.hidden": 600,
    "agent.rssm.stoch": 32,
    "agent.rssm.classes": 32,
    "agent.kl_balance": 0.8,
    "agent.kl_scale": 0.1,
    "agent.kl_free": 0.0,
    "agent.discount_scale": 5.0,
    "agent.gamma": 0.999,
    "agent.lam": 0.95,
    "agent.horizon": 15,
    "agent.entropy": 1e-3,
    "agent.target_every": 100,
    "agent.model_opt.lr": 2e-4,
    "agent.actor_opt.lr": 4e-5,
    "agent.critic_opt.lr": 1e-4,
    "agent.model_opt.eps": 1e-5,
    "agent.model_opt.clip": 100.0,
    "agent.model_opt.shrink": 1e-6,
    "replay.batch": 16,
    "replay.window.learn": 50,
    "run.prefill": 50_000,
    "run.train_ratio": 50.0,
}


@pytest.mark.parametrize(("agent", "preset"), list(PUBLISHED))
def test_published_numbers(agent: str, preset: str) -> None:
    config = make_config(agent, preset)
    for key, expected in PUBLISHED[agent, preset].items():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        assert value == expected, key


def test_planet_repeats_actions_by_domain() -> None:
    assert REPEATS == {
        "cartpole": 8,
        "cheetah": 4,
        "ball_in_cup": 4,
        "reacher": 4,
        "finger": 2,
        "walker": 2,
        "humanoid": 2,
    }
    found = {
        id: make_config("planet", "dmc-vision", id).env.options["action_repeat"]
        for id in ("dmc/cheetah-run", "dmc/ball_in_cup-catch", "dmc/hopper-hop")
    }
    assert found == {"dmc/cheetah-run": 4, "dmc/ball_in_cup-catch": 4, "dmc/hopper-hop": 2}


def test_control_from_small_images_is_no_toy() -> None:
    """Images of any size with continuous actions are control; the options of the preset go with its protocol."""
    for agent in ("dreamerv1", "planet"):
        by_kind, by_name = (make_config(agent, name, "dmc/cartpole-swingup") for name in ("cpu", "cpu-control"))
        assert (by_kind.agent, by_kind.env, by_kind.run) == (by_name.agent, by_name.env, by_name.run)
        assert by_kind.env.options == {"size": 32, "render": "smooth", "action_repeat": 8}


def test_control_before_films_is_as_small() -> None:
    """The family with films has another protocol, whose options are the same; a domain's repeat is found in its ids."""
    for agent in ("dreamerv1", "planet"):
        env = make_config(agent, "cpu-control", "dmc-background/cheetah-run").env
        assert (env.protocol, env.options) == (
            "dmc-background",
            {"size": 32, "render": "smooth", "action_repeat": 4},
        )
