"""Participants in a FastAPI application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from backstay.errors import Misuse
from backstay.url import require

from .values import Answer, Phase, Reply
from .wire import answer, read_request

if TYPE_CHECKING:
    from fastapi import APIRouter, Request, Response

    from .barrier.participant import AsyncParticipant, Participant

__all__ = ["router"]

_log = logging.getLogger("backstay.txn")


def router(participant: Participant | AsyncParticipant, *, prefix: str = "") -> APIRouter:
    """Return a router with POST /try, /confirm and /cancel for a participant.

        app.include_router(router(stock), prefix="/reservations")

    and the coordinator's side is `tx.call("http://stock/reservations", ...)`. A blocking participant runs in
    the thread pool. Nothing here checks who calls: put the routes behind the application's own
    authentication, or where only coordinators can reach them.
    """
    require("fastapi", "fastapi")
    from fastapi import APIRouter
    from fastapi.responses import JSONResponse
    from starlette.concurrency import run_in_threadpool

    given: Any = participant
    if not hasattr(given, "perform") or not hasattr(given, "is_async"):
        raise Misuse(f"router() takes a Participant or an AsyncParticipant, got {given!r}")
    routes = APIRouter(prefix=prefix, tags=[f"tcc {participant.name}"])

    def endpoint(phase: Phase) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            read = read_request(phase, request.headers, await request.body())
            if isinstance(read, Reply):
                reply = read
            elif participant.is_async:
                reply = await given.perform(read)
            else:
                reply = await run_in_threadpool(given.perform, read)
            note(participant.name, phase, reply)
            status, body = answer(reply)
            return JSONResponse(body, status_code=status)

        return serve

    for phase in Phase:
        # Plain Starlette routes: the body's shape is the participant's business, not the API schema's.
        routes.add_route(
            f"/{phase.value}", endpoint(phase), methods=["POST"], name=f"tcc_{participant.name}_{phase.value}"
        )
    return routes


def note(name: str, phase: Phase, reply: Reply) -> None:
    """Log what only the participant knows in full: exceptions and alarms."""
    if reply.answer is Answer.UNKNOWN:
        _log.error("%s of participant %s failed: %s", phase.value, name, reply.text, exc_info=reply.error)
    elif reply.answer is Answer.ALARM:
        _log.error("%s of participant %s raised an alarm: %s", phase.value, name, reply.text)
