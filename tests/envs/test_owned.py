"""One object is stepped by one stream of one source only."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from reverie.envs.faults import EnvFault
from reverie.envs.make import make_env
from tests.envs import odd_envs

HERE = "tests.envs.odd_envs"


@pytest.mark.parametrize("factory", ["shared", "wrapped"])
def test_streams_do_not_share_an_object(factory: str) -> None:
    with pytest.raises(EnvFault, match="returned the same object for streams 0 and 1"):
        make_env(f"{HERE}:{factory}", num_envs=3)


@pytest.mark.parametrize(("factory", "num_envs"), [("shared", 1), ("wrapped", 1), ("shared_vector", 2)])
def test_sources_do_not_share_an_object_until_one_is_closed(
    factory: str, num_envs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd_envs.VECTOR, "close", lambda **_: None)
    monkeypatch.setattr(odd_envs.ONE, "closed", False)
    env = make_env(f"{HERE}:{factory}", num_envs=num_envs)
    rows = env.reset(0)
    with pytest.raises(EnvFault, match="is in use already"):
        make_env(f"{HERE}:{factory}", num_envs=num_envs)
    # The first is as it was.
    assert rows["obs.vector"][0, 0] == 0
    assert env.step(np.zeros(num_envs, np.int64)).rows["obs.vector"][0, 0] == 1
    assert not odd_envs.ONE.closed
    env.close()
    make_env(f"{HERE}:{factory}", num_envs=num_envs).close()


def test_a_source_that_is_forgotten_holds_nothing() -> None:
    make_env(f"{HERE}:shared").reset(0)
    gc.collect()
    make_env(f"{HERE}:shared").close()


def test_objects_of_their_own_are_no_matter() -> None:
    one, other = (make_env(f"{HERE}:Failing", num_envs=3) for _ in range(2))
    one.close()
    other.close()
