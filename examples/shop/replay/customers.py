"""The customers: many at a time; each, like a real client, asks once more when nothing came back."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from .data import Basket

__all__ = ["INVALID", "ORDERED", "REFUSALS", "Customers", "Served", "read_answer"]

ORDERED, INVALID = "ordered", "invalid basket"
REFUSALS = {"is sold out": "sold out", "cannot pay": "payment refused"}


@dataclass(slots=True)
class Served:
    """What the customers saw: answers by kind, and when each came and how long it took, in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    finished_at: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    catalogue: Counter[str] = field(default_factory=Counter)
    began: float = 0.0
    ended: float = 0.0

    @property
    def per_second(self) -> float:
        """Baskets answered per second."""
        return len(self.seconds) / (self.ended - self.began)

    def percentiles(self, *shares: float) -> list[float]:
        """For each share, the latency that this share of the baskets did not exceed, in seconds."""
        ordered = sorted(self.seconds)
        return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]


class Customers:
    """Replays baskets against `url`, `at_once` at a time."""

    def __init__(self, url: str, *, at_once: int = 32, timeout: float = 6.0, pause: float = 2.0) -> None:
        self._url = url
        self._at_once = at_once
        self._timeout = timeout
        self._pause = pause
        self.served = Served()

    async def buy(self, baskets: Iterable[Basket], on_answer: Callable[[int], None]) -> Served:
        """Send every basket; `on_answer` gets the number of baskets answered so far."""
        pending = iter(baskets)
        self.served.began = time.monotonic()
        limits = httpx.Limits(max_connections=self._at_once + 1, max_keepalive_connections=self._at_once + 1)
        async with httpx.AsyncClient(base_url=self._url, timeout=self._timeout, limits=limits) as http:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(self._customer(http, pending, on_answer))
        self.served.ended = time.monotonic()
        return self.served

    async def _customer(
        self, http: httpx.AsyncClient, pending: Iterator[Basket], on_answer: Callable[[int], None]
    ) -> None:
        for basket in pending:
            began = time.monotonic()
            answer = await self._purchase(http, basket)
            now = time.monotonic()
            self.served.answers[answer] += 1
            self.served.finished_at.append(now - self.served.began)
            self.served.seconds.append(now - began)
            on_answer(len(self.served.seconds))
            if basket.basket_id % 20 == 0:
                self.served.catalogue[await self._browse(http)] += 1

    async def _purchase(self, http: httpx.AsyncClient, basket: Basket) -> str:
        body = basket.purchase()
        for pause in (self._pause, None):
            try:
                response = await http.post("/purchases", json=body)
            except httpx.TransportError:
                if pause is not None:
                    await asyncio.sleep(pause)
                continue
            return read_answer(response)
        return "no answer"

    async def _browse(self, http: httpx.AsyncClient) -> str:
        try:
            response = await http.get("/catalogue")
        except httpx.TransportError:
            return "no answer"
        if response.is_error:
            return f"failed with {response.status_code}"
        return "static" if response.json()["source"] == "static" else "live"


def read_answer(response: httpx.Response) -> str:
    """What a customer makes of an answer; an error document of either shop says why."""
    if response.status_code == 201:
        return ORDERED
    if response.status_code == 422:
        return INVALID
    for words, refusal in REFUSALS.items():
        if words in response.text:
            return refusal
    return f"failed with {response.status_code}"
