"""Actors whose rows travel apart from their reports: the learner's process hands on a reference to them.

::

    actor  --- report: episodes, speeds, head of the delivery (`Shipment`) --->  learner's process
           --- chunks of rows ------------------------------------------------>  shard of the actor
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reverie.data.inbox import Delivery
from reverie.data.sequences import Chunk
from reverie.data.shard import Shipment
from reverie.run.fleet import Answered, Fleet, Member
from reverie.run.remote import ActorHost, Crash, Orders, Parameters, Report

Told = Report | Crash


class ShippingHost(ActorHost):
    """Body of the process of an actor whose rollouts have two results. Arguments as in `ActorHost`."""

    def ship(self, parameters: Parameters, orders: Orders) -> tuple[Told, list[Chunk]]:
        """As `rollout`, with the chunks apart."""
        told = self.rollout(parameters, orders)
        if not isinstance(told.delivery, Delivery):
            return told, []
        return replace(told, delivery=Shipment.of(told.delivery)), told.delivery.chunks


class ShippingFleet(Fleet):
    """Fleet whose reports have a reference to their rows. Arguments as in `Fleet`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._rows: dict[Any, Any] = {}

    def order(self, orders: Orders) -> None:
        """As `Fleet.order`; rows of rollouts that nobody waits for any more are let go."""
        waited = {ref for member in self.members for ref in member.under_way}
        self._rows = {ref: rows for ref, rows in self._rows.items() if ref in waited}
        super().order(orders)

    def _ask(self, member: Member, *order: Any) -> Any:
        report, rows = member.handle.ship.options(num_returns=2).remote(*order)
        self._rows[report] = rows
        return report

    def _whole(self, ref: Any, answer: Answered) -> Answered:
        rows = self._rows.pop(ref, None)
        if not isinstance(answer.delivery, Shipment):
            return answer
        return replace(answer, delivery=replace(answer.delivery, rows=rows))
