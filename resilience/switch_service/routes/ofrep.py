"""OFREP 0.3, the OpenFeature Remote Evaluation Protocol: one flag, all flags with an ETag, and events of changes.

A provider's base URL is the service's own where the token is for one scope, else `.../v1/config/shop/production`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from backstay.errors import Misuse

from ...switches.document import read
from ..access import Caller
from ..board import Posted
from ..errors import Refused
from ..fields import moment_of
from ..flags import Flags, key_of
from ..openapi import EVALUATION, PLACE, described
from ..requests import LARGEST_REQUEST, answer, body_of, json_of
from ..scopes import check_scope
from ..service import Service
from ..stream import EventStream, event
from ..tickets import read_ticket, ticket
from .config import cursor_of, holds

__all__ = ["changed", "router"]

TICKET_MS = 24 * 3600 * 1000
INACTIVE_S = 120
_SCOPED = "/v1/config/{app}/{env}"
_FLAGS = "/ofrep/v1/evaluate/flags"


def router(service: Service) -> APIRouter:
    """Return the routes of OFREP."""
    routes = APIRouter(tags=["OFREP"])

    async def one(request: Request) -> Response:
        _, flags, given = await _asked(service, request)
        name = request.path_params["key"]
        if isinstance(given, Response):
            return given
        if name not in flags:
            return _failed(404, "FLAG_NOT_FOUND", f"there is no switch {name!r:.120}", key=name)
        try:
            return answer(flags.evaluate(name, key_of(given)))
        except Misuse as error:
            return _failed(400, "INVALID_CONTEXT", str(error), key=name)

    async def every(request: Request) -> Response:
        (caller, posted), flags, given = await _asked(service, request)
        if isinstance(given, Response):
            return given
        try:
            listed = flags.all(key_of(given))
        except Misuse as error:
            return _failed(400, "INVALID_CONTEXT", str(error))
        tag = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()[:32]
        etag = f'"{tag}"'
        known, told = request.headers.get("if-none-match"), request.query_params.get("flagConfigEtag")
        if known is not None and holds(known, etag) and told in (None, posted.etag):
            return Response(status_code=304, headers={"ETag": etag, "Cache-Control": "no-cache"})
        document = {
            "flags": listed,
            "eventStreams": [await _stream(service, request, caller, posted.envelope.scope)],
            "metadata": {"scope": posted.envelope.scope, "version": posted.cursor[1]},
        }
        return answer(document, headers={"ETag": etag, "Cache-Control": "no-cache"})

    for prefix, path in (("", ()), (_SCOPED, PLACE)):
        routes.post(f"{prefix}{_FLAGS}", **described("Evaluate all switches", "reader", EVALUATION, path=path))(every)
        options = described("Evaluate a switch", "reader", EVALUATION, path=(*path, "key"))
        routes.post(f"{prefix}{_FLAGS}/{{key:path}}", **options)(one)

    @routes.get("/ofrep/v1/events", **described("Events of changes, by a ticket in the URL", "ticket"))
    async def events(request: Request) -> EventStream:
        key = await asyncio.to_thread(service.store.holders.signing_key)
        found = read_ticket(key, request.query_params.get("ticket", ""), service.store.wall())
        if found is None:
            raise Refused(401, "Not known", "this ticket is not good here, or no longer; evaluate all flags once more")
        scope, token_id = found

        async def still() -> bool:
            holder = await service.access.good(token_id)
            return holder is not None and holder.reaches(scope)

        if not await still():
            raise Refused(401, "Not known", "the token of this ticket is good no longer")
        await service.present(scope)
        return EventStream(
            service.board,
            scope,
            changed,
            known=cursor_of(request.headers.get("last-event-id", "")),
            heartbeat=service.heartbeat,
            still=still,
        )

    return routes


def changed(posted: Posted) -> bytes:
    """Return the event that has providers evaluate anew."""
    data = {
        "type": "refetchEvaluation",
        "etag": posted.etag,
        "lastModified": moment_of(posted.envelope.issued_at) // 1000,
    }
    return event("message", data, number=str(posted.envelope.cursor))


async def _asked(service: Service, request: Request) -> tuple[tuple[Caller, Posted], Flags, dict[str, Any] | Response]:
    """Return who asks, the document in force, its flags, and what was sent, or the answer to what is no request."""
    caller, scope = await _scope(service, request)
    posted = await service.present(scope)
    told = cursor_of(request.query_params.get("flagConfigEtag", ""))
    if told is not None and told > posted.cursor:
        await service.watch.fetch(scope)  # an event of another replica was faster than this one
        posted = await service.present(scope)
    flags = Flags(posted, read(posted.envelope.items.get("switches", {})), service.store.wall())
    body = await body_of(request, at_most=LARGEST_REQUEST)
    try:
        given: Any = json_of(body) if body.strip() else {}
    except Refused as error:
        return (caller, posted), flags, _failed(400, "PARSE_ERROR", error.detail, key=request.path_params.get("key"))
    if not isinstance(given, dict):
        failed = _failed(400, "PARSE_ERROR", "the body must be a JSON object", key=request.path_params.get("key"))
        return (caller, posted), flags, failed
    return (caller, posted), flags, cast("dict[str, Any]", given)


async def _scope(service: Service, request: Request) -> tuple[Caller, str]:
    words = request.path_params
    if "app" in words:
        return await service.admit(request, "reader", words["app"], words["env"])
    caller = await service.access.require(request, "reader")
    named = request.headers.get("x-backstay-scope")
    if named is None:
        alone = [scope for scope in caller.holder.scopes if "*" not in scope]
        if len(caller.holder.scopes) != 1 or not alone:
            why = "this token is for several scopes: use .../v1/config/{app}/{env} as the base URL"
            raise Refused(400, "No scope", why, further={"errorCode": "GENERAL", "errorDetails": why})
        return caller, alone[0]
    try:
        return await service.access.require(request, "reader", check_scope(named)), named
    except Misuse as error:
        raise Refused(404, "No scope", str(error)) from None


async def _stream(service: Service, request: Request, caller: Caller, scope: str) -> dict[str, Any]:
    key = await asyncio.to_thread(service.store.holders.signing_key)
    made = ticket(key, scope, caller.holder.token_id, service.store.wall() + TICKET_MS)
    base = service.public_url or str(request.base_url).rstrip("/")
    return {"type": "sse", "url": f"{base}/ofrep/v1/events?ticket={made}", "inactivityDelaySec": INACTIVE_S}


def _failed(status: int, code: str, details: str, *, key: str | None = None) -> Response:
    document = {"errorCode": code, "errorDetails": details[:500]}
    return answer(document if key is None else {"key": key, **document}, status=status)
