"""The fault proxy against a real upstream server and a real client: each fault does what it is named for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from examples.shop.replay.faults import Edge, Fault, Faults, Kind
from examples.shop.replay.http1 import read_message
from examples.shop.replay.proxy import Proxy


class Scripted(Faults):
    """Faults that are given instead of drawn: the first call of basket 1 meets `fault`, all others none."""

    fault: Fault

    def __init__(self, fault: Fault) -> None:
        object.__setattr__(self, "seed", 0)
        object.__setattr__(self, "baskets", 1)
        object.__setattr__(self, "fault", fault)

    def of_call(self, edge: Edge, basket_id: int, nth: int) -> Fault | None:
        return self.fault if (basket_id, nth) == (1, 1) else None


Talk = Callable[[httpx.AsyncClient, list[bytes], Proxy], Awaitable[None]]


def through_proxy(fault: Fault, talk: Talk) -> None:
    """Run `talk` with a client behind a proxy before a server that notes the bodies it gets and says "done"."""

    async def main() -> None:
        got: list[bytes] = []

        served: list[asyncio.Task[None] | None] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(asyncio.current_task())
            while (request := await read_message(reader)) is not None:
                got.append(request.body)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
            writer.close()
            await writer.wait_closed()

        upstream = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = upstream.sockets[0].getsockname()[1]
        async with Proxy("orders-stock", port, Scripted(fault), lambda edge: None) as proxy:
            async with httpx.AsyncClient(base_url=proxy.url, timeout=0.5) as client:
                await talk(client, got, proxy)
        upstream.close()
        await asyncio.gather(*(task for task in served if task))

    asyncio.run(main())


BODY = {"basket_id": 1}


async def quiet(proxy: Proxy) -> None:
    async with asyncio.timeout(5):
        while proxy.in_flight:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("kind", "error"), [(Kind.REPLY_CUT, httpx.RemoteProtocolError), (Kind.REPLY_SWALLOWED, httpx.ReadTimeout)]
)
def test_a_lost_reply_has_reached_the_service_and_the_repetition_passes(kind: Kind, error: type[Exception]) -> None:
    async def talk(client: httpx.AsyncClient, got: list[bytes], proxy: Proxy) -> None:
        with pytest.raises(error):
            await client.post("/", json=BODY)
        assert len(got) == 1
        assert (await client.post("/", json=BODY)).text == "done"
        assert len(got) == 2
        assert proxy.met == {kind: 1}
        await quiet(proxy)

    through_proxy(Fault(kind=kind), talk)


@pytest.mark.parametrize(("kind", "seconds"), [(Kind.DUPLICATED, 0.0), (Kind.REPEATED_LATE, 0.1)])
def test_a_repeated_delivery_reaches_the_service_twice_and_answers_once(kind: Kind, seconds: float) -> None:
    async def talk(client: httpx.AsyncClient, got: list[bytes], proxy: Proxy) -> None:
        assert (await client.post("/", json=BODY)).text == "done"
        await quiet(proxy)
        assert len(got) == 2
        assert got[0] == got[1]

    through_proxy(Fault(kind=kind, seconds=seconds), talk)


def test_a_request_that_the_caller_has_given_up_on_is_still_delivered() -> None:
    async def talk(client: httpx.AsyncClient, got: list[bytes], proxy: Proxy) -> None:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/", json=BODY)
        assert got == []
        await quiet(proxy)
        assert len(got) == 1

    through_proxy(Fault(kind=Kind.DELIVERED_LATE, seconds=0.8), talk)


def test_a_call_without_a_basket_in_its_body_is_known_by_its_transaction() -> None:
    async def talk(client: httpx.AsyncClient, got: list[bytes], proxy: Proxy) -> None:
        headers = {"Backstay-Gtrid": "g-1"}
        named = {"basket_id": 2}
        assert (await client.post("/", json=named, headers=headers)).text == "done"
        proxy._basket_of[b"g-1"] = 1
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/", json={}, headers=headers)

    through_proxy(Fault(kind=Kind.REPLY_CUT), talk)


def test_a_service_that_is_down_looks_like_a_broken_connection() -> None:
    async def main() -> None:
        async with Proxy("orders-stock", 1, None, lambda edge: None) as proxy:
            async with httpx.AsyncClient(base_url=proxy.url) as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get("/")

    asyncio.run(main())
