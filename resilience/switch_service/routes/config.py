"""Documents: read, changed, rolled back, imported, exported."""

from __future__ import annotations

import asyncio
import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from backstay.errors import Misuse

from ...delivery.envelope import Envelope
from ..errors import Conflict, Refused
from ..exchange import items_of, to_toml
from ..fields import base_of, only, reason_of, wrong
from ..openapi import CHANGE, IMPORT, PLACE, ROLLBACK, described
from ..patches import Patch
from ..requests import LARGEST_DOCUMENT, answer, body_of, table_of
from ..service import Service
from ..values import Items, Published

__all__ = ["router"]

LONGEST_WAIT = 60.0
_CURSOR = re.compile(r'"?([0-9]{1,16})\.([0-9]{1,16})(?:-[0-9a-f]{16})?"?')


def router(service: Service) -> APIRouter:
    """Return the routes of documents."""
    routes = APIRouter(prefix="/v1", tags=["documents"])

    @routes.get("/scopes", **described("Scopes that the token reaches", "reader"))
    async def scopes(request: Request) -> Response:
        caller = await service.access.require(request, "reader")
        return answer(
            {
                "scopes": [
                    {"scope": posted.envelope.scope, "version": posted.cursor[1], "epoch": posted.cursor[0],
                     "role": caller.holder.role}
                    for posted in sorted(service.board.posted(), key=lambda each: each.envelope.scope)
                    if caller.holder.reaches(posted.envelope.scope)
                ]
            }
        )  # fmt: skip

    @routes.get(
        "/config/{app}/{env}", **described("The present document, or TOML with ?format=toml", "reader", path=PLACE)
    )
    async def read(request: Request) -> Response:
        # Asked for more than all the rest together: FastAPI takes 15 µs to hand over two texts of a path.
        _, scope = await service.admit(request, "reader", request.path_params["app"], request.path_params["env"])
        posted = await service.present(scope)
        known = request.headers.get("if-none-match")
        if known is not None:
            cursor = cursor_of(known)
            if cursor is not None and cursor > posted.cursor:
                await service.notice(scope, cursor, by="a client")
                posted = await service.present(scope)
        wait = _wait_of(request)
        if wait and known is not None and holds(known, posted.etag):
            with service.board.listening(scope) as listener:
                posted = service.board[scope] or posted  # it may have changed before anybody listened
                if holds(known, posted.etag):
                    posted = await listener.next(wait) or posted
        headers = {"ETag": posted.etag, "Cache-Control": "no-cache", "Vary": "Authorization, Cookie"}
        if known is not None and holds(known, posted.etag):
            return Response(status_code=304, headers=headers)
        if request.query_params.get("format") == "toml":
            try:
                text = to_toml(posted.envelope.items)
            except Misuse as error:
                raise wrong(error) from None
            return Response(text, headers=headers, media_type="application/toml")
        return Response(posted.body, headers=headers, media_type="application/json")

    @routes.patch("/config/{app}/{env}", **described("Change items", "operator", CHANGE))
    async def change(request: Request, app: str, env: str) -> Response:
        caller, scope = await service.admit(request, "operator", app, env)
        try:
            patch = Patch.of(await table_of(request, at_most=LARGEST_DOCUMENT), now=service.store.wall())
            items, there = _items(service, scope)
            if there != patch.base:
                await service.watch.fetch(scope)  # another replica may have written it just now
                items, there = _items(service, scope)
            if there != patch.base:
                raise Conflict(
                    f"{scope} has version {there}, the change was made for version {patch.base}; "
                    "look at it again, and send it again",
                    version=there,
                )
            wanted = patch.over(items)
        except Conflict as error:
            await service.note(request, caller, scope, str(error))
            raise
        except Misuse as error:
            await service.note(request, caller, scope, str(error))
            raise wrong(error) from error
        return _told(
            await service.publish(
                request, caller, scope, patch.base, wanted, why=patch.reason, action="change", dry_run=patch.dry_run
            )
        )

    @routes.post("/config/{app}/{env}/rollback", **described("Go back to a version", "operator", ROLLBACK))
    async def rollback(request: Request, app: str, env: str) -> Response:
        caller, scope = await service.admit(request, "operator", app, env)
        given = await table_of(request)
        try:
            only(given, "base", "to", "reason", "dry_run")
            base, to, reason = base_of(given), base_of(given, "to"), reason_of(given)
            dry_run = given.get("dry_run", False) is True
        except Misuse as error:
            await service.note(request, caller, scope, str(error))
            raise wrong(error) from error
        past = await _past(service, scope, to)
        return _told(
            await service.publish(
                request, caller, scope, base, past.items,
                why=f"back to version {to}: {reason}"[:500], action="rollback", dry_run=dry_run,
            )
        )  # fmt: skip

    @routes.put("/config/{app}/{env}", **described("Import a whole document, TOML or JSON", "operator", IMPORT))
    async def replace(request: Request, app: str, env: str) -> Response:
        caller, scope = await service.admit(request, "operator", app, env)
        body = await body_of(request, at_most=LARGEST_DOCUMENT)
        try:
            reason = reason_of({"reason": request.query_params.get("reason") or "import"})
            items = items_of(body, request.headers.get("content-type", ""))
        except Misuse as error:
            await service.note(request, caller, scope, str(error))
            raise wrong(error) from error
        base = await _matched(service, request, scope)
        dry_run = request.query_params.get("dry_run") in ("true", "1")
        return _told(
            await service.publish(request, caller, scope, base, items, why=reason, action="import", dry_run=dry_run)
        )

    @routes.get("/config/{app}/{env}/versions", **described("History, the latest first", "reader"))
    async def history(request: Request, app: str, env: str) -> Response:
        _, scope = await service.admit(request, "reader", app, env)
        before, limit = number_of(request, "before"), number_of(request, "limit", most=200)
        found = await asyncio.to_thread(service.store.documents.history, scope, before=before, limit=limit or 50)
        return answer({"versions": [past.document() for past in found]})

    @routes.get("/config/{app}/{env}/versions/{number}", **described("A document of the past", "reader"))
    async def past(request: Request, app: str, env: str, number: str) -> Response:
        _, scope = await service.admit(request, "reader", app, env)
        if not (number.isascii() and number.isdigit() and len(number) < 16):
            raise Refused(404, "No version", f"a version is a whole number, got {number!r:.40}")
        found = await _past(service, scope, int(number))
        return Response(found.to_bytes(), headers={"Cache-Control": "no-store"}, media_type="application/json")

    return routes


def number_of(request: Request, name: str, *, most: int = (1 << 53) - 1) -> int | None:
    """Return a number of the query, or None where it is left out.

    Raises:
        Refused: 422, it is none.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 17 and 1 <= int(text) <= most):
        raise Refused(422, "Not valid", f"{name!r} is a whole number from 1 to {most}, got {text!r:.40}")
    return int(text)


def holds(known: str, etag: str) -> bool:
    """Return whether an If-None-Match names this entity."""
    return known in (etag, "*") or etag in (each.strip().removeprefix("W/") for each in known.split(","))


def _wait_of(request: Request) -> float:
    text = request.query_params.get("wait")
    if text is None:
        preferred = request.headers.get("prefer", "")
        text = next((each.strip()[5:] for each in preferred.split(",") if each.strip().startswith("wait=")), "0")
    try:
        wait = float(text)
    except ValueError:
        wait = -1.0
    if not 0.0 <= wait <= 3600.0:
        raise Refused(422, "Not valid", f"'wait' is seconds from 0 to {LONGEST_WAIT:.0f}, got {text!r:.40}")
    return min(wait, LONGEST_WAIT)


def cursor_of(etag: str) -> tuple[int, int] | None:
    """Return epoch and version of an ETag or an event's id of ours, or None."""
    match = _CURSOR.fullmatch(etag.strip())
    return None if match is None else (int(match[1]), int(match[2]))


def _items(service: Service, scope: str) -> tuple[Items, int]:
    posted = service.board[scope]
    return ({}, 0) if posted is None else (posted.envelope.items, posted.cursor[1])


async def _past(service: Service, scope: str, number: int) -> Envelope:
    found = await asyncio.to_thread(service.store.documents.version, scope, number)
    if found is None:
        raise Refused(404, "No version", f"{scope} has no version {number}")
    return found


async def _matched(service: Service, request: Request, scope: str) -> int:
    """Return the version that an import may replace."""
    match, none = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none == "*":
        return 0
    if match is None:
        raise Refused(
            428, "Condition needed", "send If-Match with the ETag that you saw, or If-None-Match: * for a new scope"
        )
    await service.watch.fetch(scope)
    posted = service.board[scope]
    if posted is None or not holds(match, posted.etag):
        there = 0 if posted is None else posted.cursor[1]
        raise Refused(
            412, "Not the present version", f"{scope} has version {there} now; look at it again",
            further={"version": there},
        )  # fmt: skip
    return posted.cursor[1]


def _told(published: Published) -> Response:
    return answer(published.document(), headers={"ETag": published.envelope.etag})
