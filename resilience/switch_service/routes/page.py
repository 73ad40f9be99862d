"""The page and its files; whether the service is well."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ..errors import Refused
from ..openapi import described
from ..requests import answer
from ..service import Service

__all__ = ["PAGE_POLICY", "router"]

PAGE_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "img-src 'self' data:; require-trusted-types-for 'script'"
)


def router(service: Service, files: Mapping[str, tuple[str, bytes]]) -> APIRouter:
    """Return the routes of the page.

    Args:
        service: whose page.
        files: content type and body by path; `index.html` answers `/`.
    """
    routes = APIRouter(tags=["page"])
    tags = {path: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for path, (_, body) in files.items()}

    def served(request: Request, path: str) -> Response:
        if path not in files:
            raise Refused(404, "Not found", "there is no such file")
        kind, body = files[path]
        headers = {"ETag": tags[path], "Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY}
        if request.headers.get("if-none-match") == tags[path]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=kind)

    @routes.get("/", **described("The page", ""))
    async def index(request: Request) -> Response:
        return served(request, "index.html")

    @routes.get("/assets/{path:path}", **described("Files of the page", ""))
    async def asset(request: Request, path: str) -> Response:
        return served(request, path if path in files else f"assets/{path}")

    @routes.get("/healthz", **described("Whether this replica reaches its database", ""))
    async def health(request: Request) -> Response:
        problem = service.watch.problem
        return answer({"ready": not problem}, status=503 if problem else 200)

    return routes
