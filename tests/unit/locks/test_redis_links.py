"""A link to Redis and its connection. The connection is a fake: no server answers within the turn that is at stake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backstay.locks.backends.redis.async_wire import _Link


class Silent:
    """A connection on which nothing comes."""

    def __init__(self) -> None:
        self.closed = 0

    async def read_response(self, *, disconnect_on_error: bool = True) -> Any:
        await asyncio.get_running_loop().create_future()

    async def disconnect(self, nowait: bool = False) -> None:
        self.closed += 1


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_link_closes_its_connection_however_soon_it_is_stopped(turns: int) -> None:
    async def main() -> int:
        connection: Any = Silent()
        link = _Link(connection)
        for _ in range(turns):
            await asyncio.sleep(0)
        link.stop()
        await asyncio.wait([link._reader], timeout=1)
        closed: int = connection.closed
        return closed

    assert asyncio.run(main()) == 1
