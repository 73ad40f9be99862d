"""`protect` on Flask views and FastAPI endpoints: 429 with Retry-After, injection, and switches that answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from flask import Flask, request

import backstay.fastapi
import backstay.flask
from backstay.resilience import AsyncRateLimiter, Switches, protect


@pytest.fixture
def switches(tmp_path: Path) -> Switches:
    file = tmp_path / "switches.toml"
    file.write_text("[switches]\ncatalogue = true\n")
    return Switches.connect(file, interval=None)


def turn_off(switches: Switches) -> None:
    Path(switches.source.name.removeprefix("file://")).write_text(
        "[switches]\ncatalogue = {enabled = false, reason = 'stock down'}\n"
    )
    assert switches.refresh()


def tenant() -> str:
    return "acme"


def make_fastapi(switches: Switches, events: list[str]) -> FastAPI:
    app = FastAPI()
    backstay.fastapi.install(app)

    async def unit() -> AsyncIterator[str]:
        events.append("open")
        try:
            yield "unit"
        finally:
            events.append("close")

    @app.post("/purchases/{household_id}")
    @protect("fastapi.purchase", limit="2/day", key="household:{household_id}")
    async def purchase(
        household_id: int, request: Request, who: Annotated[str, Depends(tenant)], note: str = "none"
    ) -> dict[str, object]:
        return {"household": household_id, "tenant": who, "note": note, "path": request.url.path}

    @app.get("/sync/{household_id}")
    @protect("fastapi.sync", limit="1/day", key="{household_id}")
    def blocking(household_id: int, unit: str = Depends(unit)) -> str:
        events.append(f"called {unit}")
        return "sync"

    def static() -> list[str]:
        return ["static"]

    @app.get("/catalogue")
    @switches.degradable("catalogue", fallback=static)
    async def catalogue() -> list[str]:
        return ["fresh"]

    @app.get("/plain")
    @protect("fastapi.plain", switch="catalogue", switches=switches)
    async def plain() -> str:
        return "fresh"

    return app


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def api(switches: Switches, events: list[str]) -> Iterator[TestClient]:
    with TestClient(make_fastapi(switches, events)) as client:
        yield client


def test_fastapi_refuses_with_429_and_retry_after(api: TestClient) -> None:
    assert api.post("/purchases/1?note=n").json() == {
        "household": 1, "tenant": "acme", "note": "n", "path": "/purchases/1",
    }  # fmt: skip
    assert api.post("/purchases/1").status_code == 200
    refused = api.post("/purchases/1")
    assert refused.status_code == 429
    assert 43_190 <= int(refused.headers["Retry-After"]) <= 43_200
    assert refused.headers["content-type"] == "application/problem+json"
    assert api.post("/purchases/2").status_code == 200
    assert api.post("/purchases/not-a-number").status_code == 422  # validation and its schema are FastAPI's own


def test_IN3_fastapi_sees_the_endpoints_own_parameters(api: TestClient) -> None:
    schema = api.get("/openapi.json").json()["paths"]
    names = [parameter["name"] for parameter in schema["/purchases/{household_id}"]["post"]["parameters"]]
    assert names == ["household_id", "note"]


def test_fastapi_runs_a_plain_function_in_its_threads_and_ends_its_dependencies(
    api: TestClient, events: list[str]
) -> None:
    assert api.get("/sync/1").json() == "sync"
    assert api.get("/sync/1").status_code == 429
    assert events == ["open", "called unit", "close", "open", "close"]


def test_fastapi_answers_from_the_fallback_while_a_switch_is_off(api: TestClient, switches: Switches) -> None:
    assert api.get("/catalogue").json() == ["fresh"]
    turn_off(switches)
    assert api.get("/catalogue").json() == ["static"]
    refused = api.get("/plain")
    assert refused.status_code == 503
    assert "stock down" in refused.json()["detail"]


def test_fastapi_over_redis_on_one_loop(redis_url: str) -> None:
    """Many requests at once on the application's own loop; its end closes the connection."""
    limiter = AsyncRateLimiter.connect(redis_url, rate="30/day", name="fastapi.redis", budget=5.0)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with limiter:
            yield

    app = FastAPI(lifespan=lifespan)
    backstay.fastapi.install(app)

    @app.get("/{household_id}")
    @protect("fastapi.redis", limit=limiter, key="{household_id}")
    async def endpoint(household_id: int) -> int:
        return household_id

    async def main() -> list[int]:
        async with (
            lifespan(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client,
        ):
            answers = await asyncio.gather(*(client.get("/7") for _ in range(60)))
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(main())
    assert sorted(statuses) == [200] * 30 + [429] * 30


def make_flask(switches: Switches) -> Flask:
    app = Flask("shop")
    backstay.flask.install(app)

    @app.post("/purchases/<int:household_id>")
    @protect("flask.purchase", limit="2/day", key="household:{household_id}")
    def purchase(household_id: int) -> dict[str, object]:
        return {"household": household_id}

    def caller(**route: object) -> str:
        return request.headers.get("X-Tenant", "nobody")

    @app.get("/tenant")
    @protect("flask.tenant", limit="1/day", key=caller)
    def tenant_view() -> str:
        return caller()

    @app.get("/catalogue")
    @switches.degradable("catalogue", fallback={"products": "static"})
    def catalogue() -> dict[str, str]:
        return {"products": "fresh"}

    return app


def test_flask_refuses_with_429_and_retry_after(switches: Switches) -> None:
    client = make_flask(switches).test_client()
    assert client.post("/purchases/1").get_json() == {"household": 1}
    assert client.post("/purchases/1").status_code == 200
    refused = client.post("/purchases/1")
    assert refused.status_code == 429
    assert 43_190 <= int(refused.headers["Retry-After"]) <= 43_200
    assert client.post("/purchases/2").status_code == 200
    assert client.get("/purchases/2").status_code == 405


def test_flask_keys_may_come_from_the_request(switches: Switches) -> None:
    client = make_flask(switches).test_client()
    assert client.get("/tenant", headers={"X-Tenant": "a"}).text == "a"
    assert client.get("/tenant", headers={"X-Tenant": "b"}).text == "b"
    assert client.get("/tenant", headers={"X-Tenant": "a"}).status_code == 429


def test_flask_answers_from_the_fallback_while_a_switch_is_off(switches: Switches) -> None:
    client = make_flask(switches).test_client()
    assert client.get("/catalogue").get_json() == {"products": "fresh"}
    turn_off(switches)
    assert client.get("/catalogue").get_json() == {"products": "static"}
    switches.override("catalogue", True)
    assert client.get("/catalogue").get_json() == {"products": "fresh"}
