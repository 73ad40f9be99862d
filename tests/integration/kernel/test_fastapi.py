"""Errors as answers of a real FastAPI application, by the test client and over a real uvicorn."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

from backstay.errors import Misuse, NotAcquired, RateLimited, Unavailable
from backstay.fastapi import install


def limited() -> None:
    raise RateLimited("slow down", retry_after=7)


def make(cases: dict[str, Any], **options: Any) -> FastAPI:
    app = FastAPI()
    install(app, **options)

    @app.get("/fail/{name}")
    async def fail(name: str) -> str:
        raise cases[name].make()

    @app.get("/fail-in-a-thread/{name}")
    def fail_in_a_thread(name: str) -> str:
        raise cases[name].make()

    @app.get("/depends")
    async def depends(_: Annotated[None, Depends(limited)]) -> str:
        return "never"

    @app.get("/fine")
    async def fine() -> str:
        return "fine"

    @app.get("/foreign")
    async def foreign() -> str:
        raise LookupError("not ours")

    async def words() -> AsyncIterator[bytes]:
        yield b"begun "
        raise Unavailable("gone in the middle")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(words())

    @app.websocket("/ws/{name}")
    async def ws(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        raise cases[name].make()

    return app


def check(answer: Any, expected: Any, secret: str) -> None:
    assert answer.status_code == expected.status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("Retry-After") == expected.retry_after
    body = answer.json()
    assert body["type"] == f"urn:backstay:{expected.kind}"
    assert body["status"] == expected.status
    assert body["title"]
    if expected.detail is not None:
        assert body["detail"] == expected.detail
    assert secret not in answer.text


@pytest.mark.parametrize("route", ["fail", "fail-in-a-thread"])
def test_each_error_is_answered_as_its_kind(
    cases: dict[str, Any], case: tuple[str, Any], secret: str, route: str
) -> None:
    name, expected = case
    # the client raises what reaches the server; nothing of ours may
    check(TestClient(make(cases)).get(f"/{route}/{name}"), expected, secret)


def test_an_error_in_a_dependency_is_answered(cases: dict[str, Any]) -> None:
    answer = TestClient(make(cases)).get("/depends")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_what_is_no_error_of_ours_is_left_alone(cases: dict[str, Any]) -> None:
    client = TestClient(make(cases), raise_server_exceptions=False)
    assert client.get("/fine").json() == "fine"
    assert client.get("/missing").status_code == 404
    answer = client.get("/foreign")
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "text/plain; charset=utf-8")


def test_an_unknown_outcome_is_accepted_by_choice_with_what_to_ask(cases: dict[str, Any]) -> None:
    answer = TestClient(make(cases, unknown_status=202)).get("/fail/unknown")
    assert answer.status_code == 202
    assert answer.json()["ask"] == {"gtrid": "g1"}


def test_an_applications_own_handler_goes_first(cases: dict[str, Any]) -> None:
    app = make(cases)

    @app.exception_handler(NotAcquired)
    async def own(request: Request, error: NotAcquired) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(f"own: {error}", 418)

    client = TestClient(app)
    assert (client.get("/fail/held").status_code, client.get("/fail/held").text) == (418, "own: held by web-3")
    assert client.get("/fail/limited").status_code == 429


@pytest.mark.parametrize(
    ("name", "code"), [("limited", 1013), ("unavailable", 1013), ("misuse", 1011), ("unknown", 1011)]
)
def test_a_websocket_is_closed_with_a_code(cases: dict[str, Any], secret: str, name: str, code: int) -> None:
    with TestClient(make(cases)).websocket_connect(f"/ws/{name}") as websocket:
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert closed.value.code == code
    assert secret not in (closed.value.reason or "")


def test_no_middleware_is_installed(cases: dict[str, Any]) -> None:
    assert make(cases).user_middleware == FastAPI().user_middleware


def test_plain_starlette_is_served_too() -> None:
    async def fail(request: Request) -> None:
        raise RateLimited("slow down", retry_after=1)

    app = Starlette(routes=[Route("/", fail)])
    install(app)
    assert TestClient(app).get("/").status_code == 429


def test_an_unknown_status_that_is_neither_is_refused_and_nothing_is_installed() -> None:
    app = FastAPI()
    with pytest.raises(Misuse, match="500 or 202"):
        install(app, unknown_status=503)
    assert app.exception_handlers.keys() == FastAPI().exception_handlers.keys()


def test_without_starlette_the_cure_is_named() -> None:
    code = """
import sys
sys.modules["starlette"] = sys.modules["starlette.responses"] = None
from backstay.errors import MissingExtra
from backstay.fastapi import install
try:
    install(object())
except MissingExtra as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'backstay[fastapi]'" in ended.stdout


# -- over the wire


@pytest.fixture
def served(cases: dict[str, Any]) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(make(cases), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        give_up = time.monotonic() + 20
        while not server.started and time.monotonic() < give_up:
            time.sleep(0.01)
        assert server.started
        yield address
        server.should_exit = True
        thread.join(10)


def test_each_error_is_answered_over_a_real_server(served: str, cases: dict[str, Any], secret: str) -> None:
    with httpx.Client(base_url=served) as client:  # one connection: no answer may break it
        for name, expected in cases.items():
            check(client.get(f"/fail/{name}"), expected, secret)


def test_a_stream_that_fails_in_the_middle_is_cut_and_never_looks_complete(served: str) -> None:
    with httpx.stream("GET", f"{served}/stream") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    assert httpx.get(f"{served}/fine").json() == "fine"
