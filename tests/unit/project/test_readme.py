"""The two services of the README do what its text says."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from snippets import ROOT, script


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(script(ROOT / "README.md"), "README.md", "exec"), names)
    return names


def test_the_flask_service_sells_what_it_has_and_no_more(shown: dict[str, Any]) -> None:
    client = shown["app"].test_client()
    assert [client.post("/buy/honey").status_code for _ in range(3)] == [200, 409, 409]


def test_the_fastapi_service_answers_and_says_when_it_is_too_much(shown: dict[str, Any]) -> None:
    async def until_refused(path: str, most: int = 5_000) -> list[httpx.Response]:
        """Post faster than the 100 a second that refill, until the burst is used up."""
        answers: list[httpx.Response] = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shown["api"]), base_url="http://shop") as client:
            while len(answers) < most and not (answers and answers[-1].status_code == 429):
                answers.append(await client.post(path))
        return answers

    *served, refused = asyncio.run(until_refused("/orders/7/pay"))
    assert len(served) >= 200
    assert all(answer.json() == {"paid": 7} for answer in served)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
