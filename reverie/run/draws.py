"""Batches that are drawn from shards as from one replay, while they are under way.

::

    request --> every shard weighs its windows --> the shard of each window, by weight --> each shard gives its windows

A window is of shard j with probability total_j / sum total, and of window i in it with w_i / total_j: in all
w_i / sum w, as of one store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from reverie.data.generator import generator_state, set_generator_state
from reverie.data.selector import Mass
from reverie.data.shard import Ask, Collect, Draw, Drop, Part

Then = Callable[[Any], None]
"""what is done with an answer"""


@dataclass
class Request:
    """A batch that is under way. lives: of the shards, when it was drawn. total: sum of the shards' scales.

    places: columns of each shard's windows, None until all weights are there. empty: no shard had windows.
    """

    width: int
    ticket: int = -1
    lives: tuple[int, ...] = ()
    masses: dict[int, Mass] = field(default_factory=dict)
    places: dict[int, np.ndarray] | None = None
    total: float = 0.0
    parts: dict[int, Part] = field(default_factory=dict)
    empty: bool = False

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return self.places is not None and len(self.parts) == len(self.places)


class Draws:
    """Batches under way from so many shards, in the order in which they were requested.

    ask: has a shard asked something, and does something with its answer. lives: present lives of all shards. seed: of
    the draws between shards.
    """

    def __init__(
        self,
        shards: int,
        ask: Callable[[int, Ask, Then | None], None],
        lives: Callable[[], tuple[int, ...]],
        seed: int,
    ) -> None:
        self._shards, self._ask, self._lives = shards, ask, lives
        self.requests: deque[Request] = deque()
        self._tickets = 0
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin the generator of draws between shards anew."""
        self._rng = np.random.Generator(np.random.PCG64(seed))

    @property
    def generator(self) -> Any:
        """State of the generator of draws between shards."""
        return generator_state(self._rng)

    @generator.setter
    def generator(self, state: Any) -> None:
        set_generator_state(self._rng, state)

    def request(self, width: int) -> None:
        """Have a batch of so many windows drawn."""
        self.requests.append(Request(width))
        self.draw(self.requests[-1])

    def draw(self, request: Request) -> None:
        """Draw a batch, for the first time or anew."""
        request.ticket, self._tickets = self._tickets, self._tickets + 1
        request.lives = self._lives()
        request.masses, request.parts, request.places, request.empty = {}, {}, None, False
        for shard in range(self._shards):
            then = partial(self._weighed, request, request.ticket, shard)
            self._ask(shard, Draw(request.ticket, request.width), then)

    def again(self) -> None:
        """Draw anew what is not whole yet: a shard was lost, and with it what it drew."""
        for request in self.requests:
            if not request.whole:
                self._forget(request)
                self.draw(request)

    def cancel(self) -> int:
        """Forget all batches. Returns how many windows they were to have."""
        windows = 0
        while self.requests:
            request = self.requests.pop()
            windows += request.width
            self._forget(request)
        return windows

    def _weighed(self, request: Request, ticket: int, shard: int, mass: Mass) -> None:
        """Take the weight of a shard; with the last one, draw the shard of each window."""
        if request.ticket != ticket:
            return
        request.masses[shard] = mass
        if len(request.masses) < self._shards:
            return
        masses = [request.masses[number] for number in range(self._shards)]
        ends = np.cumsum([mass.total for mass in masses])
        if ends[-1] <= 0.0:
            request.empty = True
            return
        place = np.minimum(self._rng.random(request.width) * ends[-1], np.nextafter(ends[-1], 0.0))
        chosen = np.searchsorted(ends, place, side="right")
        request.total = sum(mass.scale for mass in masses)
        request.places = {number: np.flatnonzero(chosen == number) for number in sorted(set(chosen.tolist()))}
        for number in range(self._shards):
            if number in request.places:
                then = partial(self._arrived, request, ticket, number)
                self._ask(number, Collect(ticket, len(request.places[number])), then)
            else:
                self._ask(number, Drop(ticket), None)

    def _arrived(self, request: Request, ticket: int, shard: int, part: Part | None) -> None:
        """Take the rows of a shard; None: they are gone, and there are no others, so that all is to be drawn anew."""
        if request.ticket != ticket:
            return
        if part is None:
            request.ticket, request.empty = -1, True
        else:
            request.parts[shard] = part

    def _forget(self, request: Request) -> None:
        """Have shards forget what they drew."""
        for shard in range(self._shards) if request.places is None else ():
            self._ask(shard, Drop(request.ticket), None)
        request.ticket = -1
