"""Sessions of the page: a token is changed for a cookie that scripts cannot read."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ..access import COOKIE, address_of, csrf_of
from ..errors import Refused
from ..openapi import SESSION, described
from ..requests import answer, table_of
from ..service import Service
from ..values import Holder, rfc3339

__all__ = ["router"]


def router(service: Service) -> APIRouter:
    """Return the routes of sessions."""
    routes = APIRouter(prefix="/v1/session", tags=["administration"])

    @routes.post("", **described("Log in with a token", "", SESSION))
    async def log_in(request: Request) -> Response:
        address = address_of(request)
        service.access.attempt_login(address)
        given = await table_of(request, at_most=4096)
        text = given.get("token")
        holder = await service.access.holder(text.strip(), address) if isinstance(text, str) else None
        if holder is None:
            refused = Refused(401, "Not known", "this token is not good here, or no longer")
            await service.access.refuse(address, refused, who="", of=request)
            raise refused
        made, ends = await asyncio.to_thread(service.store.holders.log_in, holder, address=address)
        response = answer(_told(holder, made.text, ends))
        response.set_cookie(
            COOKIE, made.text, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/",
            max_age=max(1, (ends - service.store.wall()) // 1000),
        )  # fmt: skip
        return response

    @routes.get("", **described("Who is logged in, and the CSRF token of the page", "session"))
    async def who(request: Request) -> Response:
        cookie = request.cookies.get(COOKIE, "")
        found = await asyncio.to_thread(service.store.holders.session, cookie)
        if found is None:
            raise Refused(401, "Not known", "nobody is logged in here")
        return answer(_told(found[0], cookie, found[1]))

    @routes.delete("", **described("Log out", "session"))
    async def log_out(request: Request) -> Response:
        caller = await service.access.require(request, "reader")
        await asyncio.to_thread(service.store.holders.log_out, caller.session)
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    return routes


def _told(holder: Holder, cookie: str, ends: int) -> dict[str, object]:
    return {
        "name": holder.name,
        "role": holder.role,
        "scopes": list(holder.scopes),
        "csrf": csrf_of(cookie),
        "expires_at": rfc3339(ends),
    }
