"""Frameworks see what is protected as they see the function itself; nothing optional is imported (IN-3, IN-4)."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Query
from fastapi.testclient import TestClient
from flask import Flask

from backstay.resilience import protect

EVERYTHING: dict[str, Any] = {
    "limit": "1000/second", "deadline": 60.0, "retry": 2, "breaker": True, "bulkhead": 8, "concurrency": True,
    "fallback": lambda *args, **kwargs: "static",
}  # fmt: skip


def test_IN3_fastapi_injects_into_endpoints_and_dependencies_behind_every_policy() -> None:
    app = FastAPI()

    @protect("endpoint", **EVERYTHING)
    def household(household_id: int = Query(ge=1)) -> int:
        return household_id

    @app.get("/plain")
    @protect("endpoint", **EVERYTHING)
    def plain(number: int, household_id: int = Depends(household)) -> dict[str, int]:
        return {"number": number, "household": household_id}

    @app.get("/async")
    @protect("endpoint", **EVERYTHING, timeout=30.0, attempt_timeout=20.0)
    async def asynchronous(number: int, household_id: int = Depends(household)) -> dict[str, int]:
        return {"number": number, "household": household_id}

    client = TestClient(app)
    for path in ("/plain", "/async"):
        answer = client.get(path, params={"number": 3, "household_id": 7})
        assert answer.json() == {"number": 3, "household": 7}
        assert client.get(path, params={"number": "x", "household_id": 7}).status_code == 422
        assert client.get(path, params={"number": 3, "household_id": 0}).status_code == 422
    parameters = app.openapi()["paths"]["/async"]["get"]["parameters"]
    assert [each["name"] for each in parameters] == ["number", "household_id"]


def test_IN3_flask_views_keep_their_endpoints_and_arguments() -> None:
    app = Flask(__name__)

    @app.get("/households/<int:household_id>")
    @protect("view", **EVERYTHING)
    def household(household_id: int) -> dict[str, int]:
        return {"household": household_id}

    @app.get("/slow/<int:household_id>")
    @protect("view", limit="1000/second", breaker=True, timeout=30.0, thread_pool=2)
    def slow(household_id: int) -> dict[str, int]:
        return {"household": household_id}

    client = app.test_client()
    assert client.get("/households/7").get_json() == {"household": 7}
    assert client.get("/slow/7").get_json() == {"household": 7}
    with app.test_request_context():
        from flask import url_for

        assert url_for("household", household_id=3) == "/households/3"


BARE = """
import asyncio, json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"no {name}", name=name)

ABSENT = {"redis", "hiredis", "tenacity", "limits", "pybreaker", "kazoo", "sqlalchemy", "yaml", "flask", "fastapi",
          "starlette", "httpx", "requests", "celery", "typer", "rich"}
sys.meta_path.insert(0, Absent())
PROGRAM
found = sorted({name.partition(".")[0] for name in sys.modules} & ABSENT)
print(json.dumps([answers, found, "opentelemetry.sdk" in sys.modules]))
"""
ZERO = """
from backstay.resilience import protect
policies = dict(limit="100/second", deadline=2.0, retry=3, breaker=True, bulkhead=4, concurrency=True, fallback="s")

@protect("plain", **policies)
def plain(number): return number

@protect("asynchronous", timeout=2.0, attempt_timeout=1.0, **policies)
async def asynchronous(number): return number

@protect("stream", limit="100/second", breaker=True, bulkhead=4)
def stream(number): yield number

answers = [plain(1), asyncio.run(asynchronous(2)), list(stream(3))]
"""


def bare(program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE.replace("PROGRAM", program)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_IN4_everything_works_with_nothing_but_python() -> None:
    assert bare(ZERO) == [[1, 2, [3]], [], False]


@pytest.mark.parametrize("module", ["", ".retry", ".circuit_breaker"])
def test_IN4_importing_pulls_in_nothing_optional(module: str) -> None:
    assert bare(f"import backstay.resilience{module}\nanswers = None") == [None, [], False]
