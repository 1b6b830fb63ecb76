"""Names from elsewhere are answered with those here, and never taken for them without a word."""

from __future__ import annotations

import pytest

from reverie.elsewhere import NAMES, OPTIONS, called_here
from reverie.envs import near
from reverie.envs.make import env_names, make_env
from reverie.errors import UserError
from reverie.overrides import apply, flatten
from reverie.presets import make_config, presets


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pong", "ALE/Pong-v5"),
        ("Pong-v4", "ALE/Pong-v5"),
        ("PongNoFrameskip-v4", "ALE/Pong-v5"),
        ("PongDeterministic-v4", "ALE/Pong-v5"),
        ("atari_pong", "ALE/Pong-v5"),
        ("atari/ms_pacman", "ALE/MsPacman-v5"),
        ("SpaceInvadersNoFrameskip-v4", "ALE/SpaceInvaders-v5"),
        ("ale-breakout", "ALE/Breakout-v5"),
        ("dmc_walker_walk", "dmc/walker-walk"),
        ("walker-walk", "dmc/walker-walk"),
        ("dm_control/cheetah-run-v0", "dmc/cheetah-run"),
        ("dmc_ball_in_cup_catch", "dmc/ball_in_cup-catch"),
        ("cartpole", "CartPole-v1"),
        ("lunarlander", "LunarLander-v3"),
        ("crafter", "crafter/reward"),
        ("CrafterReward-v1", "crafter/reward"),
        ("CrafterNoReward-v1", "crafter/noreward"),
        ("catch", "toy/catch"),
        ("noisy_catch", "toy/noisy-catch"),
    ],
)
def test_ids_from_elsewhere_get_the_name_that_they_have_here(typed: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        make_env(typed)
    first = str(caught.value).partition("did you mean ")[2].replace("?", ",").split(",")[0]
    assert first == meant, str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("--env.protocol" in str(caught.value)) == ("NoFrameskip" in typed or "Deterministic" in typed)


def test_every_id_has_a_spelling_of_its_own() -> None:
    ids = [id for family, names in env_names().items() if family in ("toy", "ALE", "dmc", "crafter") for id in names]
    assert len(ids) > 100
    for id in ids:
        assert near.same_but_for_spelling(id, ids) == [id]


def test_an_id_that_is_like_none_gets_the_way_to_the_list() -> None:
    with pytest.raises(UserError, match=r"^unknown environment 'xyzzyplugh'; `reverie list envs` shows"):
        make_env("xyzzyplugh")


def test_emulators_without_a_protocol_are_in_no_list() -> None:
    pytest.importorskip("ale_py")
    assert not [id for id in env_names()["gymnasium"] if "NoFrameskip" in id or "Pong" in id]
    with pytest.raises(
        UserError, match="PongNoFrameskip-v4 is an emulator without a protocol; did you mean ALE/Pong-v5"
    ):
        make_env("PongNoFrameskip-v4")


@pytest.mark.parametrize(
    ("agent", "typed", "meant"),
    [
        ("dqn", "learning_rate", "agent.opt.lr"),
        ("dqn", "agent.learning-rate", "agent.opt.lr"),
        ("dreamerv2", "learning_rate", "agent.actor_opt.lr"),
        ("dqn", "total_timesteps", "run.env_steps"),
        ("dqn", "batch_size", "replay.batch"),
        ("dqn", "buffer_size", "replay.store.budget"),
        ("dqn", "learning_starts", "run.prefill"),
        ("dqn", "target_update_interval", "agent.target_every"),
        ("dqn", "exploration_fraction", "agent.explore.over"),
        ("r2d2", "burn_in", "replay.window.context"),
        ("r2d2", "discount", "agent.gamma"),
        ("dreamerv2", "imag_horizon", "agent.horizon"),
        ("dreamerv2", "deter_size", "agent.rssm.deter"),
        ("iqn", "num_quantiles", "agent.levels"),
        ("rainbow", "n_atoms", "agent.atoms"),
        ("dqn", "frame_skip", "env.options.frame_skip"),
        ("dqn", "log_dir", "--logdir"),
        ("dqn", "out", "--logdir"),
    ],
)
def test_keys_from_elsewhere_get_the_name_that_they_have_here(agent: str, typed: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        apply(make_config(agent, "atari"), {typed: "1"})
    first = str(caught.value).partition("did you mean ")[2].replace("?", ",").split(",")[0]
    assert first == meant, str(caught.value)


def test_of_many_keys_that_are_nowhere_near_the_groups_are_told() -> None:
    with pytest.raises(UserError) as caught:
        apply(make_config("dreamerv2", "atari"), {"zzz": "1"})
    told = str(caught.value)
    assert told.startswith("unknown key 'zzz'; known: agent., ")
    assert " replay., run." in told
    assert told.endswith("see reverie config")
    assert len(told) < 200


def test_every_name_here_is_a_key_of_some_agent() -> None:
    published = {agent: "atari" if "atari" in names else names[-1] for agent, names in presets().items()}
    known = {key for agent, name in published.items() for key in flatten(make_config(agent, name))}
    known |= set(flatten(make_config("rainbow", "atari")))
    for part, names in NAMES.items():
        assert part.startswith(OPTIONS) or any(f".{key}".endswith(f".{part}") for key in known), part
        for name in names.split():
            assert called_here(name, known), name
            assert not any(key.rpartition(".")[2] == name for key in known if key.endswith(part)), name
