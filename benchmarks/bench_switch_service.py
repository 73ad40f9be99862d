"""A reader that asks whether its document still holds, beside a bare FastAPI endpoint in the same process.

Both answer in memory through the ASGI interface, so that what is compared is what the service does for a request:
find who asks, look up the document, compare the entity tag, say the headers. The floor is an endpoint that returns a
small dict. Target: at least 0.7 of its requests per second, so at most 1 / 0.7 of its time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import FastAPI

from backstay.resilience.switch_service import Store, create_app

from .harness import Case

SCOPE = "shop/production"


def cases() -> Iterator[Case]:
    bare = FastAPI()

    @bare.get("/v1/config/{app}/{env}")
    async def endpoint(app: str, env: str) -> dict[str, object]:
        return {"version": 42, "etag": "0123456789abcdef"}

    with tempfile.TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/switches.db") as store:
        token = store.holders.add("bench", "reader", [SCOPE], by="bench").text
        switches = {f"switch-{number}": {"enabled": True, "reason": "bench"} for number in range(100)}
        made = store.documents.publish(SCOPE, 0, {"switches": switches}, who="bench", why="bench", action="change")
        service = create_app(store, files={})
        service.state.service.board.post(made.envelope)
        headers = {"authorization": f"Bearer {token}"}
        path = f"/v1/config/{SCOPE}"
        floor = _asking(bare, path, headers, 200)
        yield Case(
            name="service, ETag hit, beside a bare FastAPI endpoint",
            floor=floor,
            ours=_asking(service, path, {**headers, "if-none-match": made.envelope.etag}, 304),
            target=1 / 0.7,
        )
        yield Case(
            name="service, whole document of 100 switches", floor=floor, ours=_asking(service, path, headers, 200)
        )


def _asking(app: FastAPI, path: str, headers: dict[str, str], expected: int) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a coroutine function that makes one request as a server would."""
    raw = [(b"host", b"switches"), *((name.encode(), value.encode()) for name, value in headers.items())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != expected:
            raise AssertionError(f"{path} answered {message['status']}")

    async def ask() -> None:
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": list(raw),
            "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[arg-type]  # plain dicts are what servers hand over

    return ask
