"""A shop that runs as three real processes, without faults between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.shop.places import Places
from examples.shop.replay.data import Opening
from examples.shop.replay.opening import open_shop
from examples.shop.replay.processes import Service
from examples.shop.replay.run import Shop

OPENING = Opening(stock={1: 5, 2: 5}, balances={7: 1_000, 8: 10})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running shop: a client of its front door, its services, its places."""

    client: httpx.AsyncClient
    services: dict[str, Service]
    places: Places
    folder: Path


Run = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def running(tmp_path: Path) -> Run:
    """`async with running("protected", rate=...) as shop`."""

    @asynccontextmanager
    async def run(shop: Shop, **changed: Any) -> AsyncIterator[Running]:
        services = {name: Service(shop, name, tmp_path) for name in ("orders", "stock", "payments")}
        urls = {f"{name}_service": f"http://127.0.0.1:{services[name].port}" for name in ("stock", "payments")}
        places = replace(Places.embedded(tmp_path, **urls), **changed)
        places.save(tmp_path)
        open_shop(places, OPENING, tmp_path)
        try:
            await asyncio.gather(*(service.start() for service in services.values()))
            url = f"http://127.0.0.1:{services['orders'].port}"
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                yield Running(client=client, services=services, places=places, folder=tmp_path)
        finally:
            await asyncio.gather(*(service.stop() for service in services.values()))

    return run
