"""Push: each version as an event."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from ..board import Posted
from ..openapi import described
from ..service import Service
from ..stream import EventStream, event
from .config import cursor_of

__all__ = ["router", "told"]


def router(service: Service) -> APIRouter:
    """Return the route of events."""
    routes = APIRouter(prefix="/v1", tags=["documents"])

    @routes.get(
        "/config/{app}/{env}/events", **described("Each version as it is written, as server-sent events", "reader")
    )
    async def events(request: Request, app: str, env: str) -> EventStream:
        caller, scope = await service.admit(request, "reader", app, env)
        await service.present(scope)

        async def still() -> bool:
            return await service.access.still(caller)

        return EventStream(
            service.board,
            scope,
            told,
            known=cursor_of(request.headers.get("last-event-id", "")),
            heartbeat=service.heartbeat,
            still=still,
        )

    return routes


def told(posted: Posted) -> bytes:
    """Return the event of a document: what it is, not what it holds."""
    epoch, version = posted.cursor
    data = {"epoch": epoch, "version": version, "checksum": posted.envelope.checksum}
    return event("version", data, number=f"{epoch}.{version}")
