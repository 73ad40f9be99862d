"""A limit round a whole application: 429 by client, `Retry-After`, and the RateLimit fields that agree (RL-12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask

from backstay.resilience import AsyncRateLimiter, RateLimiter, Switches, disconnect
from backstay.resilience.frameworks import fastapi, flask
from backstay.resilience.rate_limiting.http_middleware import AsgiRateLimitFields, WsgiRateLimitFields
from backstay.resilience.rate_limiting.policy import RateLimit
from backstay.resilience.switches.policy import SwitchPolicy
from backstay.testing import measured

Get = Callable[[str, str], tuple[int, dict[str, str]]]


@contextmanager
def served_by(framework: str, name: str, store: str) -> Iterator[Get]:
    """Give a function that asks an application limited to two calls a day and tenant: path, tenant -> answer."""
    if framework == "fastapi":

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            yield
            await disconnect()

        app = FastAPI(lifespan=lifespan)
        app.get("/{path}")(lambda path: path)
        by_header = RateLimit(
            name,
            rate="2/day",
            store=store,
            key=lambda scope: dict(scope["headers"]).get(b"x-tenant", b"").decode("latin-1"),
        )
        fastapi.install(app, policies=by_header, exempt=lambda scope: scope["path"] == "/health")

        def get(path: str, tenant: str) -> tuple[int, dict[str, str]]:
            answer = client.get(path, headers={"X-Tenant": tenant})
            return answer.status_code, {key.lower(): value for key, value in answer.headers.items()}

        with TestClient(app) as client:
            yield get
        return
    site = Flask(name)
    site.get("/<path>")(lambda path: path)
    by_environ = RateLimit(name, rate="2/day", store=store, key=lambda environ: environ.get("HTTP_X_TENANT", ""))
    flask.install(site, policies=[by_environ], exempt=lambda environ: environ["PATH_INFO"] == "/health")

    def ask(path: str, tenant: str) -> tuple[int, dict[str, str]]:
        with site.test_client().get(path, headers={"X-Tenant": tenant}) as answer:
            return answer.status_code, {key.lower(): value for key, value in answer.headers.items()}

    yield ask


@pytest.mark.parametrize("store", ["memory", "redis"])
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_RL12_a_limit_of_the_whole_application_by_client(framework: str, store: str, request: Any) -> None:
    url = "memory://" if store == "memory" else request.getfixturevalue("own_redis")().url
    name = f"middleware.{framework}.{store}"
    with measured() as counts, served_by(framework, name, url) as get:
        answers = [get("/x", tenant) for tenant in ("a", "a", "a", "b")]
        health = [get("/health", "a")[0] for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429, 200]
    assert health == [200] * 3
    refused = answers[2][1]
    assert 43_190 <= int(refused["retry-after"]) <= 43_200
    assert refused["content-type"] == "application/problem+json"
    assert counts.count("rate_limiter.requests", policy_name=name, result="limited") == 1
    assert counts.count("rate_limiter.requests", policy_name=name) == 4


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_RL12_fields_outside_the_limit_tell_of_allowed_and_refused_requests(framework: str) -> None:
    name = f"middleware.fields.{framework}"
    answers: list[tuple[int, str, str]] = []
    if framework == "fastapi":
        limiter = AsyncRateLimiter.connect("memory://", rate="2/minute", name=name, announce=True)
        app = FastAPI()
        app.get("/")(lambda: "all")
        fastapi.install(app, policies=RateLimit(name, limiter=limiter))
        app.add_middleware(AsgiRateLimitFields)
        with TestClient(app) as client:
            for _ in range(3):
                found = client.get("/")
                answers.append((found.status_code, found.headers["RateLimit-Policy"], found.headers["RateLimit"]))
    else:
        blocking = RateLimiter.connect("memory://", rate="2/minute", name=name, announce=True)
        site = Flask(name)
        site.get("/")(lambda: "all")
        flask.install(site, policies=RateLimit(name, limiter=blocking))
        outer: Any = WsgiRateLimitFields(site.wsgi_app)
        site.wsgi_app = outer  # type: ignore[method-assign]  # Flask's documented place for middleware
        for _ in range(3):
            with site.test_client().get("/") as seen:
                answers.append((seen.status_code, seen.headers["RateLimit-Policy"], seen.headers["RateLimit"]))
    policy = f'"{name}";q=2;w=60'
    assert answers == [
        (200, policy, f'"{name}";r=1;t=30'),
        (200, policy, f'"{name}";r=0;t=60'),
        (429, policy, f'"{name}";r=0;t=30'),
    ]


@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_CO4_one_limit_round_the_application_and_round_a_view_charges_a_request_once(
    framework: str, colour: str
) -> None:
    name = f"middleware.twice.{framework}.{colour.split(maxsplit=1)[0]}"
    limit = RateLimit(name, rate="2/day")

    @limit
    def index() -> str:
        return "once"

    @limit
    async def index_async() -> str:
        return "once"

    statuses: list[int] = []
    if framework == "fastapi":
        app = FastAPI()
        app.get("/")(index if colour == "def" else index_async)
        fastapi.install(app, policies=limit)
        with TestClient(app) as client:
            statuses = [client.get("/").status_code for _ in range(3)]
    else:
        site = Flask(name)
        site.get("/")(index if colour == "def" else lambda: asyncio.run(index_async()))
        flask.install(site, policies=limit)
        for _ in range(3):
            with site.test_client().get("/") as answer:
                statuses.append(answer.status_code)
    assert statuses == [200, 200, 429]


def test_a_switch_round_the_application_answers_503_while_it_is_off(tmp_path: Path) -> None:
    file = tmp_path / "switches.toml"
    file.write_text("[switches]\nshop = true\n")
    switches = Switches.connect(file, interval=None)
    site = Flask("middleware.switch")
    site.get("/")(lambda: "open")
    flask.install(site, policies=SwitchPolicy(switches, "shop"))
    statuses: list[int] = []
    for text in ("true", "{enabled = false, reason = 'stock taking'}", "true"):
        file.write_text(f"[switches]\nshop = {text}\n")
        switches.refresh()
        with site.test_client().get("/") as answer:
            statuses.append(answer.status_code)
            assert ("stock taking" in answer.get_data(as_text=True)) == (answer.status_code == 503)
    assert statuses == [200, 503, 200]
