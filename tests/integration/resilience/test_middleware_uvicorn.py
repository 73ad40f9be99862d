"""A real uvicorn: a client that hangs up in the middle of a stream gives its permit back (IN-1)."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.frameworks import fastapi
from backstay.testing import measured

NAME = "middleware.uvicorn"


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serve `app` in a thread and give its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        until(lambda: server.started, "the server starts")
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def ask(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
    return connection


def status(port: int, path: str) -> int:
    with ask(port, path) as connection:
        return int(connection.recv(4096).split()[1])


@pytest.fixture
def port() -> Iterator[int]:
    app = FastAPI()

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def rows() -> AsyncIterator[bytes]:
            while True:
                yield b"row\n" * 100
                await asyncio.sleep(0.001)

        return StreamingResponse(rows())

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        tasks.add_task(asyncio.sleep, 1.0)
        return "answered"

    fastapi.install(app, policies=Bulkhead(NAME, max_concurrent=1))
    with serving(app) as found:
        yield found


def test_IN1_a_client_that_hangs_up_gives_its_permit_back(port: int) -> None:
    with measured() as counts:
        connection = ask(port, "/endless")
        received = b""
        while b"row" not in received:
            received += connection.recv(65536)
        assert counts.value("bulkhead.usage", policy_name=NAME, state="active") == 1
        assert status(port, "/later") == 503
        connection.close()
        until(lambda: counts.value("bulkhead.usage", policy_name=NAME, state="active") == 0, "the permit comes back")
        assert status(port, "/later") == 200


def test_IN1_work_in_the_background_keeps_nobody_out(port: int) -> None:
    assert status(port, "/later") == 200
    assert status(port, "/later") == 200  # while the first one's background task still runs
