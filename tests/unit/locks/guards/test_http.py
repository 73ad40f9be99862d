"""The check of a request's fence in Flask and in FastAPI, from a client's headers to the problem document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from flask import Flask
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from backstay.errors import Misuse
from backstay.fastapi import install as install_on_fastapi
from backstay.flask import install as install_on_flask
from backstay.locks.guards import HEADER, FencingToken, MemoryFences, current_token, headers
from backstay.locks.guards.fastapi import require_fence as fastapi_fence
from backstay.locks.guards.flask import require_fence as flask_fence
from backstay.locks.guards.sqlalchemy import AsyncSqlFences, SqlFences

Post = Callable[[str, dict[str, str]], tuple[int, dict[str, Any]]]


def token(fence: int, name: str = "order:42") -> FencingToken:
    return FencingToken(name=name, fence=fence)


@pytest.fixture
def paid() -> list[tuple[int, int]]:
    """Orders and fences, as views saw them."""
    return []


def flask_app(fences: Any, paid: list[tuple[int, int]]) -> Post:
    app = Flask("shop")
    install_on_flask(app)

    @app.post("/orders/<int:order_id>")
    @flask_fence(fences, "order:{order_id}")
    def pay(order_id: int) -> dict[str, int]:
        paid.append((order_id, current_token().fence))
        return {"order": order_id}

    def post(path: str, sent: dict[str, str]) -> tuple[int, dict[str, Any]]:
        answer = app.test_client().post(path, headers=sent)
        return answer.status_code, answer.get_json()

    return post


def fastapi_app(fences: Any, paid: list[tuple[int, int]]) -> Post:
    app = FastAPI()
    install_on_fastapi(app)
    check = Depends(fastapi_fence(fences, "order:{order_id}"))

    async def pay(order_id: int, fence: Any) -> dict[str, int]:
        paid.append((order_id, fence.fence))
        return {"order": order_id}

    pay.__annotations__.update(order_id=int, fence=Annotated[FencingToken, check])
    app.post("/orders/{order_id}")(pay)

    async def send(path: str, sent: dict[str, str]) -> tuple[int, dict[str, Any]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
            answer = await client.post(path, headers=sent)
            return answer.status_code, answer.json()

    def post(path: str, sent: dict[str, str]) -> tuple[int, dict[str, Any]]:
        return asyncio.run(send(path, sent))

    return post


@pytest.fixture(params=["flask", "fastapi"])
def post(request: pytest.FixtureRequest, paid: list[tuple[int, int]]) -> Post:
    return (flask_app if request.param == "flask" else fastapi_app)(MemoryFences(), paid)


def test_F6_a_stale_request_is_answered_409_and_does_not_run(post: Post, paid: list[tuple[int, int]]) -> None:
    assert post("/orders/42", headers(token(5))) == (200, {"order": 42})
    assert post("/orders/42", headers(token(7)))[0] == 200
    assert post("/orders/42", headers(token(7)))[0] == 200
    status, problem = post("/orders/42", headers(token(6)))
    assert status == problem["status"] == 409
    assert problem["type"] == "urn:backstay:stale-fence"
    assert "fence 7" in problem["detail"] and "'order:42'" in problem["detail"]
    assert post("/orders/43", headers(token(6, "order:43")))[0] == 200
    assert paid == [(42, 5), (42, 7), (42, 7), (43, 6)]


def test_a_missing_fence_is_428_and_a_broken_one_400(post: Post, paid: list[tuple[int, int]]) -> None:
    for sent in ({}, headers(token(5, "order:43"))):
        status, problem = post("/orders/42", sent)
        assert (status, problem["type"]) == (428, "urn:backstay:fence-missing")
        assert "'order:42'" in problem["detail"]
    for value in ("nonsense", "1;order%3A42;-5", "2;order%3A42;5", ""):
        status, problem = post("/orders/42", {HEADER: value})
        assert status in (400, 428 if not value else 400)
        assert problem["status"] == status
    assert paid == []


def test_several_locks_in_one_request(post: Post) -> None:
    assert post("/orders/42", headers(token(9, "customer:7"), token(5)))[0] == 200
    assert post("/orders/42", headers(token(1, "customer:7"), token(5)))[0] == 200, "only the view's own lock counts"


@pytest.fixture(params=["flask", "fastapi", "fastapi, asyncio store"])
def sql_post(request: pytest.FixtureRequest, paid: list[tuple[int, int]], tmp_path: Path) -> Iterator[Post]:
    url = f"{tmp_path}/fences.db"
    if request.param == "fastapi, asyncio store":
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{url}")
        yield fastapi_app(_OneLoop(async_engine), paid)
        return
    engine = create_engine(f"sqlite:///{url}")
    yield (flask_app if request.param == "flask" else fastapi_app)(SqlFences(engine), paid)
    engine.dispose()


class _OneLoop:
    """An asyncio store whose connections do not outlive the loop of one request."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def admit(self, lease: Any) -> None:
        try:
            await AsyncSqlFences(self._engine).admit(lease)
        finally:
            await self._engine.dispose()


def test_F6_fences_of_requests_may_be_kept_in_sql(sql_post: Post, paid: list[tuple[int, int]]) -> None:
    assert [sql_post("/orders/42", headers(token(fence)))[0] for fence in (5, 7, 6, 7)] == [200, 200, 409, 200]
    assert paid == [(42, 5), (42, 7), (42, 7)]


def test_templates_and_stores_are_checked_when_decorating() -> None:
    class Asyncio:
        async def admit(self, lease: Any) -> None: ...

    def view(order_id: int) -> str:
        return str(order_id)

    def stream(order_id: int) -> Iterator[str]:
        yield str(order_id)

    for call in (
        lambda: flask_fence(MemoryFences(), "order:{oder_id}")(view),
        lambda: flask_fence(MemoryFences(), "order:{order_id}")(stream),
        lambda: flask_fence(Asyncio(), "order:{order_id}"),  # type: ignore[arg-type]
        lambda: flask_fence("memory://", "order:{order_id}"),  # type: ignore[arg-type]
        lambda: fastapi_fence(None, "order:{order_id}"),  # type: ignore[arg-type]
        lambda: fastapi_fence(MemoryFences(), ""),
    ):
        with pytest.raises(Misuse):
            call()


def test_a_field_that_the_path_does_not_have_is_a_misuse(paid: list[tuple[int, int]]) -> None:
    app = FastAPI()
    install_on_fastapi(app)
    app.post("/orders", dependencies=[Depends(fastapi_fence(MemoryFences(), "order:{order_id}"))])(lambda: None)

    async def send() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
            return (await client.post("/orders", headers=headers(token(5)))).status_code

    assert asyncio.run(send()) == 500


def test_an_async_view_of_flask_is_checked_too() -> None:
    fences = MemoryFences()

    @flask_fence(fences, "order:{order_id}")
    async def pay(order_id: int) -> int:
        return current_token().fence + order_id

    app = Flask("shop")
    with app.test_request_context(headers=headers(token(5))):
        assert asyncio.run(pay(42)) == 47
    fences.admit(token(6))
    with app.test_request_context(headers=headers(token(5))), pytest.raises(Exception, match="fence 6"):
        asyncio.run(pay(42))
