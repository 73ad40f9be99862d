"""Whole FastAPI and Flask applications behind policies: what Starlette and Flask promise still holds (IN-1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from flask import Flask, Response, abort, stream_with_context
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.websockets import WebSocketDisconnect

import backstay.fastapi
from backstay.errors import BulkheadFull, Misuse
from backstay.resilience import protect
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.frameworks import fastapi, flask
from backstay.resilience.pipeline import Pipeline
from backstay.testing import measured
from unit.resilience.recorder import CallsOnly, Recorder

request_id: ContextVar[str] = ContextVar("request_id", default="none")


def make_fastapi(log: list[Any]) -> FastAPI:
    app = FastAPI()

    async def opened() -> AsyncIterator[str]:
        log.append("unit opened")
        yield "unit"
        log.append("unit closed")

    @app.get("/")
    async def index(unit: str = Depends(opened)) -> dict[str, str]:
        return {"unit": unit}

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        async def later() -> None:
            await asyncio.sleep(0)
            log.append("background")

        tasks.add_task(later)
        return "answered"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def rows() -> AsyncIterator[bytes]:
            for number in range(3):
                log.append(f"row {number}")
                yield b"%d" % number

        return StreamingResponse(rows())

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    @app.get("/refused")
    async def refused() -> None:
        raise BulkheadFull("inner", retry_after=3)

    @app.get("/context")
    async def context() -> str:
        before = request_id.get()
        request_id.set("endpoint")
        return before

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    return app


@pytest.fixture
def log() -> list[Any]:
    return []


@pytest.fixture
def policy() -> Recorder:
    return Recorder()


@pytest.fixture
def api(log: list[Any], policy: Recorder) -> Iterator[TestClient]:
    app = make_fastapi(log)
    fastapi.install(app, policies=[policy])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_IN1_endpoints_dependencies_and_errors_of_fastapi_are_what_they_are_without_policies(
    api: TestClient, log: list[Any], policy: Recorder
) -> None:
    assert api.get("/").json() == {"unit": "unit"}
    assert log == ["unit opened", "unit closed"]
    assert api.get("/missing").status_code == 404
    assert api.get("/nowhere").status_code == 404
    assert api.get("/broken").status_code == 500
    refused = api.get("/refused")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    kinds = [type(told).__name__ for told in policy.told]
    assert kinds == ["NoneType", "NoneType", "NoneType", "RuntimeError", "FailedAnswer"]


def test_IN1_background_tasks_run_after_the_permit_came_back(api: TestClient, log: list[Any], policy: Recorder) -> None:
    assert api.get("/background").json() == "answered"
    assert log == ["background"]
    assert policy.told == [None]


def test_IN1_background_tasks_hold_no_permit(log: list[Any], policy: Recorder) -> None:
    app = FastAPI()

    @app.get("/")
    async def index(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: log.append(policy.active))
        log.append(policy.active)
        return "x"

    fastapi.install(app, policies=policy)
    with TestClient(app) as client:
        client.get("/")
    assert log == [1, 0]


def test_IN1_a_stream_is_not_spooled(policy: Recorder) -> None:
    """The second part is produced only after the first was sent: the application waits for its reader to have it."""

    async def main() -> list[Any]:
        arrived = asyncio.Event()
        sent: list[Any] = []
        app = FastAPI()

        @app.get("/")
        async def stream() -> StreamingResponse:
            async def rows() -> AsyncIterator[bytes]:
                yield b"first"
                await asyncio.wait_for(arrived.wait(), 5)
                sent.append(policy.active)
                yield b"second"

            return StreamingResponse(rows())

        fastapi.install(app, policies=policy)

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body") == b"first":
                arrived.set()

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
            "path": "/", "raw_path": b"/", "query_string": b"", "headers": [], "scheme": "http",
            "server": ("shop", 80), "root_path": "", "client": None,
        }  # fmt: skip
        await app(scope, receive, send)
        return sent

    sent = asyncio.run(main())
    assert sent[0]["type"] == "http.response.start"
    assert [part if isinstance(part, int) else part["body"] for part in sent[1:]] == [b"first", 1, b"second", b""]
    assert policy.told == [None]


def test_IN1_a_client_that_goes_away_ends_the_stream_and_gives_the_permit_back(policy: Recorder) -> None:
    async def main() -> None:
        app = FastAPI()

        @app.get("/")
        async def stream() -> StreamingResponse:
            async def rows() -> AsyncIterator[bytes]:
                while True:
                    yield b"more"
                    await asyncio.sleep(0)

            return StreamingResponse(rows())

        fastapi.install(app, policies=policy)
        count = 0

        async def send(message: Any) -> None:
            nonlocal count
            count += 1

        async def receive() -> Any:
            while count < 10:
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.0"}, "http_version": "1.1", "method": "GET",
            "path": "/", "raw_path": b"/", "query_string": b"", "headers": [], "scheme": "http",
            "server": ("shop", 80), "root_path": "", "client": None,
        }  # fmt: skip
        await asyncio.wait_for(app(scope, receive, send), 5)

    asyncio.run(main())
    assert policy.active == 0
    assert len(policy.told) == 1


def test_IN1_context_variables_of_middleware_outside_reach_the_endpoint(policy: Recorder, log: list[Any]) -> None:
    app = make_fastapi(log)
    fastapi.install(app, policies=policy)
    inner: Any = app

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        request_id.set("middleware")
        await inner(scope, receive, send)
        log.append(request_id.get())

    with TestClient(outside) as client:
        assert client.get("/context").json() == "middleware"
    assert "endpoint" in log


def test_IN1_our_middleware_is_none_of_starlettes_base(log: list[Any], policy: Recorder) -> None:
    app = make_fastapi(log)
    fastapi.install(app, policies=policy)
    assert [issubclass(each.cls, BaseHTTPMiddleware) for each in app.user_middleware] == [False]  # type: ignore[arg-type]  # a factory


def test_IN1_websockets_pass_and_can_be_admitted(log: list[Any], policy: Recorder, api: TestClient) -> None:
    with api.websocket_connect("/echo") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"
    assert policy.told == []
    full = make_fastapi(log)
    fastapi.install(full, policies=Recorder(permits=0), websockets=True)
    with TestClient(full) as client, pytest.raises(Exception) as refused, client.websocket_connect("/echo"):
        raise AssertionError("was accepted")
    assert isinstance(refused.value, WebSocketDisconnect) or getattr(refused.value, "status_code", None) == 503


def test_a_pipeline_of_policies_that_admit_goes_round_an_application(log: list[Any]) -> None:
    app = make_fastapi(log)
    pipeline = Pipeline("frameworks.pipeline", Bulkhead("frameworks.pipeline", max_concurrent=1))
    fastapi.install(app, policies=pipeline)
    with TestClient(app) as client, measured() as counts:
        assert client.get("/").status_code == 200
        with pipeline.admission():
            assert client.get("/").status_code == 503
    assert counts.count("operation.duration", resource="frameworks.pipeline", outcome="ok") == 2
    assert counts.count("operation.duration", resource="frameworks.pipeline", outcome="rejected") == 1


def test_a_dependency_admits_to_the_end_of_the_stream(policy: Recorder, log: list[Any]) -> None:
    app = FastAPI()
    backend: list[int] = []

    @app.get("/", dependencies=[Depends(fastapi.admission(policy, name="export"))])
    async def export(fail: int = 0) -> StreamingResponse:
        if fail:
            raise HTTPException(fail)

        async def rows() -> AsyncIterator[bytes]:
            backend.append(policy.active)
            yield b"a"
            backend.append(policy.active)

        return StreamingResponse(rows())

    @app.websocket("/ws", dependencies=[Depends(fastapi.admission(policy, name="ws"))])
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        backend.append(policy.active)
        await websocket.close()

    with TestClient(app) as client:
        assert client.get("/").text == "a"
        assert backend == [1, 1]
        assert client.get("/?fail=404").status_code == 404
        assert client.get("/?fail=503").status_code == 503
        assert [type(told).__name__ for told in policy.told] == ["NoneType", "NoneType", "HTTPException"]
        assert "connection" not in str(client.get("/openapi.json").json())
        with client.websocket_connect("/ws"):
            pass
    assert backend == [1, 1, 1]
    assert policy.active == 0
    with pytest.raises(Misuse, match="retry"):
        fastapi.admission(CallsOnly(), name="export")


def test_protect_goes_on_dependencies_as_well() -> None:
    """A plain dependency and one that yields: the second is admitted for as long as the request lasts."""
    app = FastAPI()
    bulkhead = Bulkhead("frameworks.dependency", max_concurrent=1)
    seen: list[Any] = []

    @protect("frameworks.user", limit="2/day")
    async def user(name: str) -> str:
        return name

    @bulkhead
    async def opened() -> AsyncIterator[str]:
        seen.append("opened")
        yield "unit"
        seen.append("closed")

    @app.get("/")
    async def index(who: str = Depends(user), unit: str = Depends(opened)) -> str:
        seen.append(who)
        with pytest.raises(BulkheadFull), bulkhead.admission():
            raise AssertionError("admitted")
        return who

    backstay.fastapi.install(app)
    with TestClient(app) as client:
        assert [client.get("/?name=a").status_code for _ in range(3)] == [200, 200, 429]
    assert seen == ["opened", "a", "closed"] * 2


# --- Flask ---------------------------------------------------------------------------------------------


def make_flask(policy: Any, log: list[Any], **options: Any) -> Flask:
    app = Flask("frameworks.flask")

    @app.get("/")
    def index() -> str:
        return "index"

    @app.get("/stream")
    def stream() -> Response:
        def rows() -> Iterator[bytes]:
            for number in range(3):
                log.append(policy.active)
                yield b"%d" % number

        return Response(stream_with_context(rows()))

    @app.get("/missing")
    def missing() -> str:
        abort(404)

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("broken")

    flask.install(app, policies=policy, **options)
    return app


def test_IN1_flask_behind_policies(policy: Recorder, log: list[Any]) -> None:
    client = make_flask(policy, log).test_client()
    with client.get("/") as index:
        assert index.get_data(as_text=True) == "index"
    with client.get("/stream") as streamed:
        assert policy.active == 1
        assert streamed.get_data(as_text=True) == "012"
    assert log == [1, 1, 1]
    for path, status in (("/missing", 404), ("/broken", 500)):
        with client.get(path) as answer:
            assert answer.status_code == status
    assert [type(told).__name__ for told in policy.told] == ["NoneType"] * 3 + ["FailedAnswer"]
    assert policy.active == 0


def test_flask_refuses_before_the_application(log: list[Any]) -> None:
    policy = Recorder(permits=0)
    refused = make_flask(policy, log).test_client().get("/")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.get_json()["type"] == "urn:backstay:bulkhead-full"


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_a_flask_view_holds_its_permit_until_its_stream_is_closed(colour: str, policy: Recorder) -> None:
    app = Flask("frameworks.view")
    active: list[int] = []

    def rows() -> Iterator[bytes]:
        for _ in range(2):
            active.append(policy.active)
            yield b"row"

    def export(fail: int) -> Response:
        if fail:
            abort(fail)
        return Response(rows())

    async def export_async(fail: int) -> Response:
        return export(fail)

    view: Any = flask.streamed(policy)(export if colour == "def" else export_async)
    if colour == "def":
        app.get("/<int:fail>")(view)
        client = app.test_client()
        with client.get("/0") as answer:
            assert policy.active == 1
            assert answer.get_data() == b"rowrow"
        assert active == [1, 1]
        assert client.get("/404").status_code == 404
        assert client.get("/503").status_code == 503
    else:  # Flask runs these by asgiref, which is not needed to see what the view does

        async def call(fail: int) -> Any:
            return await view(fail=fail)

        with app.test_request_context("/"):
            answer = asyncio.run(call(0))
            assert policy.active == 1
            answer.close()
            for fail in (404, 503):
                with pytest.raises(Exception, match=str(fail)):
                    asyncio.run(call(fail))
    assert [type(told).__name__ for told in policy.told] == ["NoneType", "NoneType", "ServiceUnavailable"]
    assert policy.active == 0


def test_mistakes_are_found_when_the_application_is_made(log: list[Any]) -> None:
    with pytest.raises(Misuse, match="retry"):
        make_flask(CallsOnly(), log)
    with pytest.raises(Misuse, match="retry"):
        flask.streamed(CallsOnly())(lambda: "view")
