"""Tokens and the audit, for admins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from backstay.errors import Misuse

from ..errors import Refused
from ..fields import moment_of, only, wrong
from ..openapi import TOKEN, described
from ..requests import answer, table_of
from ..scopes import check_pattern, covers_pattern
from ..service import Service
from .config import number_of

__all__ = ["router"]


def router(service: Service) -> APIRouter:
    """Return the routes of tokens and of the audit."""
    routes = APIRouter(prefix="/v1", tags=["administration"])

    @routes.get("/tokens", **described("Tokens, without their secrets", "admin"))
    async def tokens(request: Request) -> Response:
        caller = await service.access.require(request, "admin")
        found = await asyncio.to_thread(service.store.holders.all)
        return answer({"tokens": [each for each in found if covers_pattern(caller.holder.scopes, each["scopes"])]})

    @routes.post("/tokens", **described("Make a token; the answer shows it once", "admin", TOKEN))
    async def make(request: Request) -> Response:
        caller = await service.access.require(request, "admin")
        given = await table_of(request)
        try:
            only(given, "name", "role", "scopes", "expires_at")
            name, role, scopes = given.get("name"), given.get("role"), given.get("scopes")
            if not isinstance(name, str) or not isinstance(role, str) or not isinstance(scopes, list):
                raise Misuse("a token needs 'name', 'role' and a list 'scopes'")
            patterns = [check_pattern(each) for each in cast("Sequence[Any]", scopes)]
            if not covers_pattern(caller.holder.scopes, patterns):
                raise Misuse(f"this token is for {', '.join(caller.holder.scopes)}: it cannot make one for more")
            ends = given.get("expires_at")
            made = await asyncio.to_thread(
                service.store.holders.add,
                name, role, patterns,
                expires_ms=None if ends is None else moment_of(ends, "expires_at"),
                by=caller.holder.name, address=caller.address,
            )  # fmt: skip
        except Misuse as error:
            await service.note(request, caller, "", str(error))
            raise wrong(error) from None
        return answer({"id": made.id, "token": made.text}, status=201)

    @routes.delete("/tokens/{token_id}", **described("End a token and its sessions", "admin"))
    async def revoke(request: Request, token_id: str) -> Response:
        caller = await service.access.require(request, "admin")
        found = await asyncio.to_thread(service.store.holders.all)
        mine = {each["id"] for each in found if covers_pattern(caller.holder.scopes, each["scopes"])}
        if token_id not in mine or not await asyncio.to_thread(
            service.store.holders.revoke, token_id, by=caller.holder.name, address=caller.address
        ):
            raise Refused(404, "No token", "there is no such token, or it was ended already")
        service.access.forget(token_id)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    @routes.get("/audit", **described("Who did or tried what, the latest first", "admin"))
    async def audit(request: Request) -> Response:
        caller = await service.access.require(request, "admin")
        before, limit = number_of(request, "before"), number_of(request, "limit", most=500)
        entries, further = await asyncio.to_thread(
            service.store.records.page, caller.holder.scopes, before=before, limit=limit or 100
        )
        return answer({"entries": entries, "before": further})

    return routes
