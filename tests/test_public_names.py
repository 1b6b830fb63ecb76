"""Names at the top of the package, and what other packages register: found without importing more than is used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import reverie
from reverie import overrides
from reverie.envs import make
from reverie.errors import UserError


def test_every_public_name_is_the_thing_itself() -> None:
    from reverie.agents.agent import Agent
    from reverie.data.dataset import open_dataset
    from reverie.play.load import load
    from reverie.run.train import train

    assert (reverie.Agent, reverie.open_dataset, reverie.load, reverie.train) == (Agent, open_dataset, load, train)
    assert all(getattr(reverie, name) for name in reverie.__all__)
    assert set(reverie.__all__) <= set(dir(reverie))
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        reverie.trian  # noqa: B018


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, reverie; print('torch' in sys.modules); reverie.open_dataset; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    points = [
        EntryPoint("mine", "reverie.envs.toys", make.GROUP),
        EntryPoint("toy", "no.such.module", make.GROUP),
        EntryPoint("broken", "no.such.module", make.GROUP),
    ]
    monkeypatch.setattr(make, "entry_points", lambda group: points if group == make.GROUP else [])
    make.families.cache_clear()
    yield
    make.families.cache_clear()


@pytest.mark.usefixtures("registered")
def test_other_packages_bring_families_of_environments() -> None:
    assert make.family_of("mine/catch") == "reverie.envs.toys"
    assert make.family_of("toy/catch") == "reverie.envs.toys"  # ours keep their prefixes
    assert make.family_of("CartPole-v1") == make.GYM
    assert make.make_env("toy/catch").spec.id == "toy/catch"
    with pytest.raises(UserError, match=r"broken/thing: there is no module 'no'"):
        make.make_env("broken/thing")


def test_agents_by_their_path_have_folders_and_variants() -> None:
    from reverie.cli.root import folder_name

    assert folder_name("package.module:Class-ALE/Pong-v5-cpu-seed0") == "package.module_Class-ALE_Pong-v5-cpu-seed0"
    many = ",".join(f"ALE/Game{number}-v5" for number in range(30))
    long = [folder_name(f"impala-{many}-atari-seed{seed}") for seed in (0, 1)]
    assert long[0] != long[1]
    assert all(len(name) == 200 and name.startswith("impala-ALE_Game0-v5_") for name in long)


def test_what_has_no_compiled_form_is_told_in_one_line(tmp_path: Path) -> None:
    config = reverie.make_config("actor_critic:ActorCritic", None, "CartPole-v1")
    config = overrides.apply(config, {"run.compile": True})
    with pytest.raises(UserError, match=r"has no compiled form; set run\.compile = false"):
        reverie.train(config, tmp_path / "run")
