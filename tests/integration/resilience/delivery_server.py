"""A small switch service for tests of the delivery, run by uvicorn in a process of its own.

It speaks the delivery's part of the service's HTTP contract over real sockets, keeps documents in memory, and has
faults of its own under /test. Run: python delivery_server.py PORT.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from backstay.resilience.delivery.envelope import Envelope

TOKEN = "reader-token"
HEARTBEAT = 0.2


class Service:
    def __init__(self) -> None:
        self.present: Envelope | None = None
        self.news = asyncio.Condition()
        self.faults: dict[str, Any] = {}
        self.counts = {"full": 0, "unchanged": 0, "streams": 0, "polls": 0}

    def refusal(self, request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Response(status_code=401)
        if "status" in self.faults:
            return Response(status_code=int(self.faults["status"]))
        return None

    async def config(self, request: Request) -> Response:
        refused = self.refusal(request)
        if refused is not None:
            return refused
        known, wait = request.headers.get("if-none-match"), float(request.query_params.get("wait", 0))
        if wait:
            self.counts["polls"] += 1
            async with self.news:
                try:
                    async with asyncio.timeout(wait):
                        await self.news.wait_for(lambda: self.present is not None and self.present.etag != known)
                except TimeoutError:
                    return Response(status_code=304)
        present = self.present
        if present is None:
            return Response(status_code=404)
        if known == present.etag:
            self.counts["unchanged"] += 1
            return Response(status_code=304, headers={"etag": present.etag})
        self.counts["full"] += 1
        body = present.to_bytes()
        if self.faults.get("truncate"):
            return Response(body[: len(body) // 2], headers={"etag": present.etag})
        if self.faults.get("drip"):
            return StreamingResponse(self.drip(body), media_type="application/json")
        return Response(body, headers={"etag": present.etag}, media_type="application/json")

    async def drip(self, body: bytes) -> Any:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(0.05)

    async def events(self, request: Request) -> Response:
        refused = self.refusal(request)
        if refused is not None:
            return refused
        self.counts["streams"] += 1
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    async def stream(self) -> Any:
        told = None
        while True:
            present = self.present
            if present is not None and present != told and not self.faults.get("mute"):
                told = present
                data = json.dumps({"epoch": present.epoch, "version": present.version, "checksum": present.checksum})
                yield f"id: {present.cursor}\nevent: version\ndata: {data}\n\n"
            elif not self.faults.get("silent"):
                yield ": here\nevent: heartbeat\ndata: {}\n\n"
            try:
                async with asyncio.timeout(HEARTBEAT), self.news:
                    await self.news.wait()
            except TimeoutError:
                continue

    async def put(self, request: Request) -> Response:
        async with self.news:
            self.present = Envelope.parse(await request.body())
            self.news.notify_all()
        return Response(status_code=204)

    async def set_faults(self, request: Request) -> Response:
        self.faults = json.loads(await request.body())
        return Response(status_code=204)

    async def read_counts(self, request: Request) -> Response:
        return Response(json.dumps(self.counts))


def application() -> Starlette:
    service = Service()
    return Starlette(
        routes=[
            Route("/v1/config/{app}/{env}", service.config),
            Route("/v1/config/{app}/{env}/events", service.events),
            Route("/test/document", service.put, methods=["PUT"]),
            Route("/test/faults", service.set_faults, methods=["PUT"]),
            Route("/test/counts", service.read_counts),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(application(), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
