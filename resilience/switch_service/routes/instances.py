"""Which instances run which version, and at which level they were when."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from backstay.errors import Misuse

from ..errors import Refused
from ..fields import moment_of, wrong
from ..heartbeats import Heartbeat
from ..openapi import HEARTBEAT, described
from ..requests import answer, table_of
from ..service import Service

__all__ = ["router"]


def router(service: Service) -> APIRouter:
    """Return the routes of instances."""
    routes = APIRouter(prefix="/v1", tags=["instances"])

    @routes.post("/instances", **described("Say which version this instance runs, every 10 s", "reader", HEARTBEAT))
    async def beat(request: Request) -> Response:
        caller = await service.access.require(request, "reader")
        try:
            heard = Heartbeat.of(await table_of(request))
        except Misuse as error:
            raise wrong(error) from None
        if not caller.holder.reaches(heard.scope):
            await service.access.require(request, "reader", heard.scope)
        posted = await service.present(heard.scope)
        await service.notice(heard.scope, (heard.epoch, heard.version), by=heard.instance)
        try:
            await asyncio.to_thread(service.store.fleet.hear, heard)
        except Misuse as error:
            raise Refused(429, "Too many", str(error), headers={"Retry-After": "600"}) from None
        now = service.board[heard.scope] or posted
        return answer({"epoch": now.cursor[0], "version": now.cursor[1], "next_s": 10})

    @routes.get("/instances/{app}/{env}", **described("Instances heard of in the last hour", "reader"))
    async def instances(request: Request, app: str, env: str) -> Response:
        _, scope = await service.admit(request, "reader", app, env)
        return answer({"instances": await asyncio.to_thread(service.store.fleet.instances, scope)})

    @routes.get("/levels/{app}/{env}", **described("Changes of levels, the earliest first", "reader"))
    async def levels(request: Request, app: str, env: str) -> Response:
        _, scope = await service.admit(request, "reader", app, env)
        text = request.query_params.get("since")
        try:
            since = 0 if text is None else moment_of(text.replace(" ", "+"), "since")  # a + in a query is a space
        except Misuse as error:
            raise wrong(error) from None
        found = await asyncio.to_thread(service.store.fleet.levels, scope, since_ms=since)
        return answer({"levels": found})

    return routes
