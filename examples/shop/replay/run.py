"""One shop, from opening to audit: start its services, send the customers, break things, read the books."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from examples.shop.places import Places

from .audit import Books, audit
from .customers import Customers, Served
from .data import Opening, Replay
from .faults import Edge, Faults, Kill, Kind
from .journal import unfinished
from .opening import open_shop, set_catalogue
from .processes import Service
from .proxy import Proxy

__all__ = ["Outcome", "Shop", "run"]

Shop = Literal["naive", "protected"]
MakePlaces = Callable[[Path, str, str], Places]
EDGE_TO: dict[str, Edge] = {"orders": "client-orders", "payments": "orders-payments"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was measured about one shop. `kills` are (service, seconds after the first customer)."""

    shop: Shop
    served: Served
    books: Books
    met: dict[Kind, int]
    kills: list[tuple[str, float]]
    settled: float


class Killer:
    """Kills services at the planned moments of a replay: right after a request has been handed to them."""

    def __init__(self, planned: list[Kill], services: dict[str, Service]) -> None:
        self._planned = planned
        self._services = services
        self._armed: list[Kill] = []
        self._running: list[asyncio.Task[None]] = []

    def answered(self, baskets: int) -> None:
        """Arm what is due after so many answered baskets."""
        while self._planned and self._planned[0].baskets <= baskets:
            self._armed.append(self._planned.pop(0))

    def requested(self, edge: Edge) -> None:
        """A request has just been sent to a service: kill it in the middle of that call, if its time has come."""
        for kill in [kill for kill in self._armed if EDGE_TO[kill.service] == edge]:
            self._armed.remove(kill)
            self._running.append(asyncio.create_task(self._kill(kill)))

    async def _kill(self, kill: Kill) -> None:
        await asyncio.sleep(kill.seconds)
        await self._services[kill.service].kill_and_restart()

    async def done(self) -> None:
        """Wait until everything that was killed serves again."""
        await asyncio.gather(*self._running)


async def run(
    shop: Shop,
    replay: Replay,
    opening: Opening,
    folder: Path,
    make_places: MakePlaces,
    on_answer: Callable[[int], None],
    at_once: int = 32,
) -> Outcome:
    """Replay the baskets against one shop and audit it once everything has come to rest."""
    _empty(folder)
    services = {name: Service(shop, name, folder) for name in ("orders", "stock", "payments")}
    faults = Faults(seed=replay.seed, baskets=replay.count)
    killer = Killer(faults.kills(), services)

    def edge(name: Edge, to: str) -> Proxy:
        return Proxy(name, services[to].port, faults, killer.requested)

    async with (
        edge("client-orders", "orders") as front,
        edge("orders-stock", "stock") as to_stock,
        edge("orders-payments", "payments") as to_payments,
    ):
        places = make_places(folder, to_stock.url, to_payments.url)
        places.save(folder)
        await asyncio.to_thread(open_shop, places, opening, folder)
        await asyncio.gather(*(service.start() for service in services.values()))
        customers = Customers(front.url, at_once=at_once)

        def answered(baskets: int) -> None:
            killer.answered(baskets)
            # For the middle fifth of the replay an operator spares the stock service the catalogue.
            if baskets in (2 * replay.count // 5, 3 * replay.count // 5):
                set_catalogue(folder, live=baskets >= 3 * replay.count // 5)
            on_answer(baskets)

        try:
            served = await customers.buy(replay, answered)
            await killer.done()
            settled = await _settle(places, [front, to_stock, to_payments])
        finally:
            await asyncio.gather(*(service.stop() for service in services.values()))
        met = sum((proxy.met for proxy in (front, to_stock, to_payments)), Counter[Kind]())
    return Outcome(
        shop=shop,
        served=served,
        books=await asyncio.to_thread(audit, places),
        met=dict(met),
        kills=[(name, at - served.began) for name, service in services.items() for at in service.killed_at],
        settled=settled,
    )


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


async def _settle(places: Places, proxies: list[Proxy], longest: float = 90.0) -> float:
    """End the faults and wait until no call is on its way and no transaction is open; returns the seconds it took."""
    began = time.monotonic()
    for proxy in proxies:
        proxy.faults = None
    quiet = 0
    while quiet < 10 and time.monotonic() - began < longest:
        await asyncio.sleep(0.2)
        open_now = sum(proxy.in_flight for proxy in proxies) + await asyncio.to_thread(unfinished, places)
        quiet = 0 if open_now else quiet + 1
    return time.monotonic() - began
