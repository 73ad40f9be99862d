"""Branches over HTTP: FastAPI and Flask participants, both faces, and what their answers mean."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask

from backstay.testing.proxy import FaultProxy
from backstay.txn import (
    AsyncTransactionManager,
    Outcome,
    Settings,
    State,
    TransactionManager,
    TryFailed,
    TryInvalid,
    TryRefused,
)
from backstay.txn.fastapi import router
from backstay.txn.flask import blueprint
from integration.txn.shop import Stock

QUIET = Settings(recovery=False, timeout=1.0, patience=1.0)
URL = "http://stock/reservations"


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    made = Stock(f"sqlite:///{tmp_path}/stock.db")
    yield made
    made.engine.dispose()


@pytest.fixture
def fastapi_app(stock: Stock) -> FastAPI:
    app = FastAPI()
    app.include_router(router(stock.participant), prefix="/reservations")
    return app


@pytest.fixture
def flask_app(stock: Stock) -> Flask:
    app = Flask("stock")
    app.register_blueprint(blueprint(stock.participant, url_prefix="/reservations"))
    return app


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        return None


@pytest.fixture
def served(fastapi_app: FastAPI) -> Iterator[int]:
    """The FastAPI application behind a real socket; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(fastapi_app, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)


# --- one purchase, each way ----------------------------------------------------------------------


def _blocking(journal: str, hosts: dict[str, Any], work: Callable[[TransactionManager], None]) -> None:
    with TransactionManager.connect(journal, hosts=hosts, settings=QUIET) as manager:
        work(manager)


def test_a_flask_participant_by_the_blocking_face(journal: str, flask_app: Flask, stock: Stock) -> None:
    def work(manager: TransactionManager) -> None:
        with manager.tcc(key="basket:1") as tx:
            assert tx.call(URL, sku="a", quantity=3) == {"hold": tx.gtrid}
            assert stock.rows() == (7, 3)
        assert tx.state is State.CONFIRMED
        assert stock.rows() == (7, 0)
        with pytest.raises(TryRefused, match="sold out: a") as refused, manager.tcc() as tx:
            tx.call(URL, sku="a", quantity=2)
            tx.call(URL, sku="a", quantity=300)
        assert refused.value.detail == {"sku": "a"}
        assert refused.value.branch == f"2 {URL}"
        assert stock.rows() == (7, 0)

    _blocking(journal, {"stock": httpx.WSGITransport(flask_app)}, work)


def test_a_fastapi_participant_by_the_asyncio_face(journal: str, fastapi_app: FastAPI, stock: Stock) -> None:
    async def work() -> None:
        hosts = {"stock": httpx.ASGITransport(fastapi_app)}
        async with AsyncTransactionManager.connect(journal, hosts=hosts, settings=QUIET) as manager:
            async with manager.tcc() as tx:
                both = await tx.parallel((URL, {"sku": "a", "quantity": 1}), (URL, {"sku": "a", "quantity": 2}))
                assert both == [{"hold": tx.gtrid}] * 2
            assert tx.state is State.CONFIRMED
            assert stock.rows() == (7, 0)
            with pytest.raises(LookupError):
                async with manager.tcc() as tx:
                    await tx.call(URL, sku="a", quantity=1)
                    raise LookupError("the block failed")
            assert (tx.state, stock.rows()) == (State.CANCELLED, (7, 0))

    asyncio.run(work())


def test_over_a_real_socket_by_the_blocking_face(journal: str, served: int, stock: Stock) -> None:
    def work(manager: TransactionManager) -> None:
        with manager.tcc() as tx:
            tx.call(URL, sku="a", quantity=4)
        assert stock.rows() == (6, 0)

    _blocking(journal, {"stock": f"http://127.0.0.1:{served}"}, work)


# --- unknown answers -----------------------------------------------------------------------------


def test_a_lost_reply_of_a_try_is_unknown_and_its_branch_is_cancelled(journal: str, served: int, stock: Stock) -> None:
    with FaultProxy("127.0.0.1", served) as proxy:

        def work(manager: TransactionManager) -> None:
            with pytest.raises(TryFailed, match="no usable answer"), manager.tcc() as tx:
                proxy.drop_replies(times=1)
                try:
                    tx.call(URL, sku="a", quantity=4)
                finally:
                    assert stock.rows() == (6, 4)  # it did take effect
            assert tx.state is State.CANCELLED
            assert stock.rows() == (10, 0)

        _blocking(journal, {"stock": f"http://{proxy.host}:{proxy.port}"}, work)


def test_a_lost_reply_of_a_confirm_is_asked_again(journal: str, served: int, stock: Stock) -> None:
    with FaultProxy("127.0.0.1", served) as proxy:

        def work(manager: TransactionManager) -> None:
            with manager.tcc() as tx:
                tx.call(URL, sku="a", quantity=4)
                proxy.drop_replies(times=1)
            assert manager.outcome(tx.gtrid) is Outcome.CONFIRMED
            assert (tx.state, stock.rows()) == (State.CONFIRMED, (6, 0))

        _blocking(journal, {"stock": f"http://{proxy.host}:{proxy.port}"}, work)


def test_an_exception_in_a_try_is_a_500_and_unknown(journal: str, flask_app: Flask, stock: Stock) -> None:
    def work(manager: TransactionManager) -> None:
        stock.fails = ZeroDivisionError("secret detail")
        with pytest.raises(TryFailed, match="HTTP 500") as failed, manager.tcc() as tx:
            tx.call(URL, sku="a", quantity=1)
        assert "secret" not in str(failed.value)
        assert (tx.state, stock.rows()) == (State.CANCELLED, (10, 0))

    _blocking(journal, {"stock": httpx.WSGITransport(flask_app)}, work)


def test_a_participant_that_is_down_leaves_nothing_unfinished(journal: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def work(manager: TransactionManager) -> None:
        with pytest.raises(TryFailed, match="could not be reached"), manager.tcc() as tx:
            tx.call(URL, sku="a", quantity=1)
        assert tx.state is State.CANCELLED

    _blocking(journal, {"stock": f"http://127.0.0.1:{port}"}, work)


@pytest.mark.parametrize(
    ("url", "payload", "said"),
    [
        ("http://stock/nowhere", {"sku": "a", "quantity": 1}, "HTTP 404"),
        (URL, {"sku": "a"}, "HTTP 400.*quantity"),
    ],
)
def test_a_wrong_request_is_the_callers_fault(
    journal: str, fastapi_app: FastAPI, url: str, payload: dict[str, Any], said: str, stock: Stock
) -> None:
    async def work() -> None:
        hosts = {"stock": httpx.ASGITransport(fastapi_app)}
        settings = Settings(recovery=False, patience=0.0)
        async with AsyncTransactionManager.connect(journal, hosts=hosts, settings=settings) as manager:
            with pytest.raises(TryInvalid, match=said):
                async with manager.tcc() as tx:
                    await tx.call(url, **payload)
            assert stock.rows() == (10, 0)

    asyncio.run(work())


# --- the participant's side ----------------------------------------------------------------------


@pytest.fixture(params=["fastapi", "flask"])
def post(request: pytest.FixtureRequest, fastapi_app: FastAPI, flask_app: Flask) -> Callable[..., tuple[int, Any]]:
    """Send a request as a coordinator does; return status and body."""

    def send(phase: str, body: Any, gtrid: str = "g1", headers: dict[str, str] | None = None) -> tuple[int, Any]:
        names = {"Backstay-Version": "1", "Backstay-Gtrid": gtrid, "Backstay-Branch": "1", **(headers or {})}
        path = f"/reservations/{phase}"
        if request.param == "fastapi":
            answer = TestClient(fastapi_app).post(path, json=body, headers=names)
            return answer.status_code, answer.json()
        reply = flask_app.test_client().post(path, json=body, headers=names)
        return reply.status_code, reply.get_json()

    return send


UNITS = {"sku": "a", "quantity": 2}


def test_the_answers_of_a_participant(post: Callable[..., tuple[int, Any]], stock: Stock) -> None:
    assert post("try", UNITS) == (200, {"status": "done", "result": {"hold": "g1"}})
    assert post("try", UNITS) == (200, {"status": "done", "result": {"hold": "g1"}})
    assert stock.rows() == (8, 2)
    assert post("confirm", UNITS) == (200, {"status": "done", "result": None})
    status, body = post("cancel", UNITS)
    assert (status, body["status"]) == (422, "alarm")
    assert stock.rows() == (8, 0)


def test_a_late_try_is_refused_never_answered_with_success(post: Callable[..., tuple[int, Any]], stock: Stock) -> None:
    assert post("cancel", UNITS)[0] == 200
    status, body = post("try", UNITS)
    assert (status, body["status"]) == (409, "refused")
    assert "late try" in body["reason"]
    assert stock.rows() == (10, 0)


def test_confirm_before_try_and_another_payload_are_alarms(post: Callable[..., tuple[int, Any]], stock: Stock) -> None:
    assert post("confirm", UNITS)[0] == 422
    assert post("try", UNITS)[0] == 200
    assert post("confirm", {"sku": "a", "quantity": 9})[0] == 422
    assert stock.rows() == (8, 2)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (UNITS, {"Backstay-Gtrid": ""}),
        (UNITS, {"Backstay-Branch": "x" * 65}),
        (UNITS, {"Backstay-Version": "9"}),
        ([1, 2], {}),
        ({"sku": "a", "quantity": 1, "surplus": 1}, {}),
    ],
)
def test_malformed_requests_change_nothing(
    post: Callable[..., tuple[int, Any]], stock: Stock, body: Any, headers: dict[str, str]
) -> None:
    status, answer = post("try", body, headers=headers)
    assert (status, answer["status"]) == (400, "invalid")
    assert stock.rows() == (10, 0)


def test_an_exception_tells_the_coordinator_nothing_about_itself(
    post: Callable[..., tuple[int, Any]], stock: Stock
) -> None:
    stock.fails = ZeroDivisionError("password=hunter2")
    status, body = post("try", UNITS)
    assert status == 500
    assert "hunter2" not in str(body)
