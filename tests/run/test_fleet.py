"""The fleet's patience, with a cluster and a clock of our own: who is given up, and who is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reverie.config import RayConfig
from reverie.errors import UserError
from reverie.presets import make_config
from reverie.run import attention
from reverie.run.fleet import Fleet
from reverie.run.remote import Orders, Report

ORDERS = Orders(20, "explore", 0)


@dataclass(eq=False)
class Answer:
    """Of an actor to an order, once it is there."""

    value: Report | None = None


class Actor:
    """A process whose answers are those that a test gives it."""

    orders: list[Answer]

    def __init__(self, *_: Any) -> None:
        self.ping = SimpleNamespace(remote=lambda: Answer())
        self.rollout = SimpleNamespace(remote=self.order)

    def order(self, *_: Any) -> Answer:
        Actor.orders.append(Answer())
        return Actor.orders[-1]


@dataclass
class World:
    """A cluster with one actor, its clock, and what was said."""

    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def fleet(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Fleet:
        """A fleet whose only actor is there and has an order."""
        Actor.orders = []
        monkeypatch.setattr(attention, "time", SimpleNamespace(monotonic=lambda: self.now))
        host = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=Actor))
        ray = SimpleNamespace(
            remote=lambda _: host,
            put=lambda value: value,
            kill=lambda _: None,
            get=lambda ref, timeout=None: ref.value,
            wait=lambda refs, num_returns, timeout: ([ref for ref in refs if ref.value is not None], []),
            exceptions=SimpleNamespace(GetTimeoutError=TimeoutError, RayError=ConnectionError),
        )
        config = make_config("dqn", "cpu", "CartPole-v1")
        config = SimpleNamespace(**vars(config) | {"ray": RayConfig(actors=1, in_flight=1, **options)})
        monkeypatch.setattr("reverie.run.fleet.sent", lambda _: {})
        lives = iter(range(1, 99))
        fleet = Fleet(ray, config, 20, lambda _: (next(lives), np.zeros(1, int)), lambda _: None, self.said.append)  # type: ignore[arg-type]
        fleet.start()
        fleet.order(ORDERS)
        return fleet

    def answered(self, fleet: Fleet) -> None:
        """Have the actor answer its order, and give it another."""
        Actor.orders[-1].value = Report(None, [], [], {}, 0, 20, 1.0, 0)  # type: ignore[arg-type]
        assert self.look(fleet) == 1

    def look(self, fleet: Fleet) -> int:
        """Collect what is there, and order what is missing."""
        received = fleet.collect(0.0, lambda: True)
        fleet.order(ORDERS)
        return received


def test_every_life_has_the_patience_that_its_environments_need(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    fleet = world.fleet(monkeypatch, silence=60.0, patience=300.0)
    world.answered(fleet)
    fleet.renew(0)
    fleet.order(ORDERS)
    for _ in range(290):  # the second life takes long to begin
        world.now += 1
        world.look(fleet)
    assert fleet.members[0].restarts == 1
    world.answered(fleet)
    for _ in range(60):
        world.now += 1
        world.look(fleet)
    assert fleet.members[0].restarts == 1
    world.now += 2
    world.look(fleet)
    assert (fleet.members[0].restarts, len(world.said)) == (2, 1)
    assert "said nothing for 62 s" in world.said[0]


def test_silence_does_not_count_while_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    fleet = world.fleet(monkeypatch, silence=60.0)
    world.answered(fleet)
    world.now += 300  # an evaluation
    world.look(fleet)
    assert not world.said
    world.answered(fleet)
    assert fleet.members[0].restarts == 0


def test_what_is_ordered_after_a_silence_is_heard_no_later_than_it_was_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    fleet = world.fleet(monkeypatch, silence=60.0)
    world.answered(fleet)
    world.now += 600  # an evaluation, after which rollouts are ordered before anybody listens
    before = fleet._attention.now()
    world.look(fleet)
    assert 0.0 <= fleet._attention.now() - before <= 60.0
    world.now += 62
    for _ in range(62):
        world.now += 1
        world.look(fleet)
    assert "said nothing" in world.said[0]


@pytest.mark.parametrize("pause", [0.5, 5.0, 20.0])
def test_who_hangs_is_given_up_however_long_the_learner_is_busy_between(
    monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    world = World()
    fleet = world.fleet(monkeypatch, silence=60.0)
    world.answered(fleet)
    for _ in range(130):
        world.now += pause
        world.look(fleet)
        if world.said:
            break
    assert "said nothing" in world.said[0]
    assert world.now == pytest.approx({0.5: 60.5, 5.0: 65.0, 20.0: 220.0}[pause])


def test_who_is_silent_again_and_again_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    fleet = world.fleet(monkeypatch, silence=60.0, patience=60.0, crashes=1)
    for _ in range(121):
        world.now += 1
        world.look(fleet)
    world.now += 1
    with pytest.raises(UserError, match=r"actor 0 failed 2 times in a row, at last with: said nothing for 61 s"):
        world.look(fleet)
