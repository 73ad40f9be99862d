"""A pipeline round the outgoing calls of an httpx client.

    client = httpx.Client(transport=Transport(pipeline=payments))
    client = httpx.AsyncClient(transport=AsyncTransport(per_host=lambda host: Pipeline(host, Retry(host))))

An answer whose status counts as a failure is one to breakers and retries, and still comes back as an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from types import TracebackType
from typing import Any

from backstay.errors import Misuse
from backstay.url import require

from ..pipeline import Pipeline
from ..timeout import deadline_header, within
from .answers import SERVER_ERRORS, FailedAnswer
from .httpx_streams import Httpx
from .outgoing import IDEMPOTENT, Outgoing, check_failures

require("httpx", "http")

from httpx import (  # noqa: E402  # after the sentence that says how to install it
    AsyncBaseTransport,
    AsyncHTTPTransport,
    BaseTransport,
    HTTPTransport,
    Request,
    Response,
)

__all__ = ["AsyncTransport", "FailedAnswer", "Transport"]


class Transport(BaseTransport):
    """Sends requests of a blocking client through a pipeline.

    Guaranteed: breakers and bulkheads are settled when the answer's body has ended or was closed, not before;
    only idempotent methods, and requests with an `Idempotency-Key`, are repeated, and only if their body is in
    memory; answers that are given up for another attempt are closed; a deadline (`remaining()`) shortens connect,
    read, write and pool timeouts, and is sent along. Not guaranteed: that a deadline stops an answer that comes in
    drops, each within the read timeout; in async code `Timeout` does.

    Args:
        pipeline: for all hosts.
        per_host: or what makes the pipeline of a host (`"shop.example:8443"`), once for each.
        transport: what sends; `HTTPTransport()` by default. The transport closes it.
        most_hosts: hosts beyond that share the pipeline of `_other`.
        failures: the statuses that are failures; the caller gets such an answer all the same.
        methods: the methods that retry may repeat.
        send_deadline: tell the service by a header what remains of the deadline.

    Raises:
        Misuse: an argument is wrong, or a policy cannot stand here (hedge, or a timeout without threads).
        MissingExtra: httpx is not installed.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline | None = None,
        per_host: Callable[[str], Pipeline] | None = None,
        transport: BaseTransport | None = None,
        most_hosts: int = 200,
        failures: Container[int] = SERVER_ERRORS,
        methods: Collection[str] = IDEMPOTENT,
        send_deadline: bool = True,
    ) -> None:
        inner: Any = HTTPTransport() if transport is None else transport
        if not isinstance(inner, BaseTransport):
            raise Misuse(f"transport must be a blocking transport, got {inner!r:.100}")
        self._inner = inner
        self._send_deadline = send_deadline
        self._outgoing = Outgoing(
            pipeline, per_host,
            most_hosts=most_hosts, failures=check_failures(failures), methods=methods,
            wire=Httpx(), attempt=self._attempt, is_async=False,
        )  # fmt: skip

    def handle_request(self, request: Request) -> Response:
        """Send `request` through its pipeline."""
        outgoing = self._outgoing
        exchange, token = outgoing.begin()
        response: Response | None = None
        try:
            response = outgoing.chain(_host(request))(request)
        except FailedAnswer as failed:
            response = failed.response
            if response is None:
                raise
        finally:
            outgoing.end(token)
            if exchange.failed is not None and exchange.failed is not response:
                exchange.failed.close()
        return _checked(response)

    def _attempt(self, request: Request) -> Response:
        outgoing = self._outgoing
        earlier = outgoing.earlier()
        if earlier is not None:
            earlier.close()
        _take_deadline(request, send=self._send_deadline)
        response = self._inner.handle_request(request)
        found: Response = outgoing.judged(response, response.status_code)
        return found

    def close(self) -> None:
        """Close the transport that sends."""
        self._inner.close()

    def __enter__(self) -> Transport:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(AsyncBaseTransport):
    """Sends requests of an asyncio client through a pipeline; everything else is as for `Transport`.

    Args:
        pipeline: for all hosts.
        per_host: or what makes the pipeline of a host.
        transport: what sends; `AsyncHTTPTransport()` by default.
        most_hosts: hosts beyond that share the pipeline of `_other`.
        failures: the statuses that are failures.
        methods: the methods that retry may repeat.
        send_deadline: tell the service by a header what remains of the deadline.

    Raises:
        Misuse: an argument is wrong, or a policy cannot stand here.
        MissingExtra: httpx is not installed.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline | None = None,
        per_host: Callable[[str], Pipeline] | None = None,
        transport: AsyncBaseTransport | None = None,
        most_hosts: int = 200,
        failures: Container[int] = SERVER_ERRORS,
        methods: Collection[str] = IDEMPOTENT,
        send_deadline: bool = True,
    ) -> None:
        inner: Any = AsyncHTTPTransport() if transport is None else transport
        if not isinstance(inner, AsyncBaseTransport):
            raise Misuse(f"transport must be an asyncio transport, got {inner!r:.100}")
        self._inner = inner
        self._send_deadline = send_deadline
        self._outgoing = Outgoing(
            pipeline, per_host,
            most_hosts=most_hosts, failures=check_failures(failures), methods=methods,
            wire=Httpx(), attempt=self._attempt, is_async=True,
        )  # fmt: skip

    async def handle_async_request(self, request: Request) -> Response:
        """Send `request` through its pipeline."""
        outgoing = self._outgoing
        exchange, token = outgoing.begin()
        response: Response | None = None
        try:
            response = await outgoing.chain(_host(request))(request)
        except FailedAnswer as failed:
            response = failed.response
            if response is None:
                raise
        finally:
            outgoing.end(token)
            if exchange.failed is not None and exchange.failed is not response:
                await exchange.failed.aclose()
        return _checked(response)

    async def _attempt(self, request: Request) -> Response:
        outgoing = self._outgoing
        earlier = outgoing.earlier()
        if earlier is not None:
            await earlier.aclose()
        _take_deadline(request, send=self._send_deadline)
        response = await self._inner.handle_async_request(request)
        found: Response = outgoing.judged(response, response.status_code)
        return found

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._inner.aclose()

    async def __aenter__(self) -> AsyncTransport:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)


def _host(request: Request) -> str:
    return request.url.netloc.decode("ascii")


def _take_deadline(request: Request, *, send: bool) -> None:
    """Shorten the request's timeouts to what remains.

    Raises:
        DeadlineExceeded: nothing remains, and nothing was sent.
    """
    given = request.extensions.get("timeout", {})
    timeouts = {kind: within(given.get(kind)) for kind in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": timeouts}
    if send:
        request.headers.update(deadline_header())


def _checked(response: object) -> Response:
    if not isinstance(response, Response):
        raise Misuse(f"a fallback in a client's pipeline must answer with an httpx.Response, got {response!r:.100}")
    return response
