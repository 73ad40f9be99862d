"""Header fields that say where an answer is from and how old it is: RFC 9111 and RFC 9211 (DG-6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults

import fastapi
import flask
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, strategies as st
from starlette.responses import StreamingResponse

from backstay.errors import Unavailable
from backstay.resilience.read_chain import (
    Answer,
    Collected,
    LocalTier,
    ReadChain,
    StaticTier,
    asgi,
    fastapi as chain_fastapi,
    flask as chain_flask,
    reads,
    said,
    wsgi,
)
from backstay.resilience.read_chain.headers import added
from backstay.testing import ManualClock
from unit.resilience.read_chains import Origin


def collected(**answers: Answer[Any]) -> Collected:
    found = Collected()
    for name, answer in answers.items():
        found.note(name, answer)
    return found


def kept(age: float, ttl: float, **more: Any) -> Answer[Any]:
    return Answer(value=1, source="local_cache", age=age, ttl=ttl, stale=ttl <= 0, **more)


def test_without_reads_nothing_is_said() -> None:
    assert said(Collected()) == {}


def test_DG6_what_the_origin_answered_has_no_age() -> None:
    answer: Answer[int] = Answer(value=1, source="origin", age=0.2, ttl=4.8)
    assert said(collected(catalogue=answer)) == {"Cache-Status": "catalogue; fwd=miss; ttl=4; detail=origin"}


def test_DG6_a_fresh_answer_is_a_hit_with_its_age_rounded_up() -> None:
    assert said(collected(catalogue=kept(3.2, 1.9))) == {
        "Cache-Status": "catalogue; hit; ttl=1; detail=local_cache", "Age": "4",
    }  # fmt: skip


def test_DG6_a_stale_answer_is_a_hit_with_a_time_to_live_below_zero() -> None:
    fields = said(collected(catalogue=kept(412.5, -412.4)), warning=True)
    assert fields == {
        "Cache-Status": "catalogue; hit; ttl=-413; detail=local_cache", "Age": "413",
        "Warning": '110 - "Response is Stale"',
    }  # fmt: skip
    assert "Warning" not in said(collected(catalogue=kept(412.5, -412.4)))
    assert "Warning" not in said(collected(catalogue=kept(1, 3)), warning=True)


def test_who_waited_for_another_read_was_collapsed_with_it() -> None:
    answer: Answer[int] = Answer(value=1, source="origin", age=0.2, joined=True)
    assert said(collected(catalogue=answer))["Cache-Status"] == "catalogue; fwd=miss; collapsed; detail=origin"


def test_a_static_answer_has_no_age_that_anybody_knows() -> None:
    answer: Answer[int] = Answer(value=1, source="static", age=None)
    assert said(collected(catalogue=answer)) == {"Cache-Status": "catalogue; hit; detail=static"}


def test_DG6_of_several_chains_each_is_named_and_the_oldest_gives_the_age() -> None:
    fields = said(collected(prices=kept(3, 2), stock=kept(90, -30), offers=Answer(value=1, source="origin", age=0)))
    assert fields["Age"] == "90"
    assert [member.split(";")[0] for member in fields["Cache-Status"].split(", ")] == ["prices", "stock", "offers"]


@given(name=st.text(min_size=1, max_size=30), age=st.floats(0, 1e12), ttl=st.floats(-1e12, 1e12))
def test_no_name_or_number_breaks_the_fields(name: str, age: float, ttl: float) -> None:
    found = Collected()
    found.note(name, kept(age, ttl))
    fields = said(found)
    assert all(" " <= each <= "~" for each in "".join(fields.values()))
    assert 0 <= int(fields["Age"]) < 2**31
    status = fields["Cache-Status"]
    assert status.count('"') - status.count('\\"') in (0, 2)


def test_fields_that_are_there_already_are_kept() -> None:
    there = [("Content-Type", "text/plain"), ("cache-status", "inner; hit"), ("age", "7"), ("Set-Cookie", "a=1"),
             ("Set-Cookie", "b=2")]  # fmt: skip
    merged = added(there, {"Cache-Status": "outer; hit", "Age": "5"})
    assert merged == [
        ("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
        ("Cache-Status", "inner; hit, outer; hit"), ("Age", "7"),
    ]  # fmt: skip
    assert ("Age", "5") in added([("Age", "old")], {"Age": "5"})


# -- applications


class Shop:
    """A catalogue whose database can be taken away."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.plain, self.asynchronous = Origin("def"), Origin("async def")
        chain = ReadChain(
            "catalogue", local=LocalTier(fresh=5, max_stale=60), static=StaticTier(answer="static"),
            key="product:{product_id}", clock=self.clock, uniform=lambda low, high: low,
        )  # fmt: skip
        self.read, self.read_async = chain(self.plain.read()), chain(self.asynchronous.read())

    def breaks(self) -> None:
        self.plain.error = self.asynchronous.error = Unavailable("down")


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_DG6_flask_says_source_and_age(shop: Shop) -> None:
    app = flask.Flask("shop")
    chain_flask.install(app, warning=True)
    app.add_url_rule("/<int:product_id>", view_func=shop.read, endpoint="product")
    app.add_url_rule("/health", view_func=lambda: "well", endpoint="health")
    client = app.test_client()
    assert client.get("/1").headers["Cache-Status"] == "catalogue; fwd=miss; ttl=5; detail=origin"
    shop.clock.advance(7)
    shop.breaks()
    answer = client.get("/1")
    assert (answer.text, answer.headers["Age"]) == ("product 1", "7")
    assert answer.headers["Cache-Status"] == "catalogue; hit; ttl=-2; detail=local_cache"
    assert answer.headers["Warning"] == '110 - "Response is Stale"'
    assert client.get("/2").headers["Cache-Status"] == "catalogue; hit; detail=static"
    assert "Cache-Status" not in client.get("/health").headers


def test_DG6_fastapi_says_source_and_age_of_coroutines_threads_and_tasks(shop: Shop) -> None:
    app = fastapi.FastAPI()
    chain_fastapi.install(app)

    @app.get("/async/{product_id}")
    async def product(product_id: int) -> str:
        return str(await shop.read_async(product_id))

    @app.get("/sync/{product_id}")
    def product_in_thread(product_id: int) -> str:
        return str(shop.read(product_id))

    @app.get("/many")
    async def many() -> list[str]:
        return list(await asyncio.gather(*(shop.read_async(each) for each in range(3))))

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        value = await shop.read_async(1)

        async def parts() -> Any:
            for _ in range(3):
                yield value

        return StreamingResponse(parts())

    with TestClient(app) as client:
        assert client.get("/async/1").headers["cache-status"] == "catalogue; fwd=miss; ttl=5; detail=origin"
        shop.clock.advance(3)
        for path in ("/async/1", "/sync/1"):
            assert client.get(path).headers["age"] == "3"
        shop.clock.advance(4)
        shop.breaks()
        assert client.get("/many").headers["cache-status"] == "catalogue; hit; detail=static"
        answer = client.get("/stream")
        assert (answer.text, answer.headers["age"]) == ("product 1" * 3, "7")
        assert "cache-status" not in client.get("/nowhere").headers


def test_requests_do_not_hear_of_each_others_reads(shop: Shop) -> None:
    app = flask.Flask("shop")
    app.wsgi_app = wsgi.SaysReads(app.wsgi_app)  # type: ignore[method-assign]  # Flask's place for it
    app.add_url_rule("/<int:product_id>", view_func=shop.read, endpoint="product")
    app.add_url_rule("/health", view_func=lambda: "well", endpoint="health")
    shop.read(1)
    shop.clock.advance(4)
    with reads() as outer:
        assert app.test_client().get("/1").headers["Age"] == "4"
        assert "Age" not in app.test_client().get("/health").headers
    assert outer.by_chain == {}


def test_the_middlewares_leave_everything_else_alone() -> None:
    def bare(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X", "1")])
        return [b"as it is"]

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    started: list[Any] = []
    served: Any = wsgi.SaysReads(bare)
    assert served(environ, lambda *given: started.append(given)) == [b"as it is"]
    assert started == [("200 OK", [("X", "1")])]
    seen: list[Any] = []

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], send))

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent")

    async def receive() -> Any:
        raise AssertionError("nothing is received")

    for kind in ("lifespan", "websocket"):
        asyncio.run(asgi.SaysReads(lifespan)({"type": kind}, receive, send))
    assert seen == [("lifespan", send), ("websocket", send)]


def test_the_answer_to_a_failed_read_says_what_else_was_read(shop: Shop) -> None:
    app = flask.Flask("shop")
    chain_flask.install(app)

    @app.get("/broken")
    def broken() -> str:
        shop.read(1)
        return str(1 // 0)

    answer = app.test_client().get("/broken")
    assert answer.status_code == 500
    assert answer.headers["Cache-Status"].startswith("catalogue; fwd=miss")
