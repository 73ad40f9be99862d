"""A pipeline round the outgoing calls of a requests session.

    session = requests.Session()
    session.mount("https://payments.example", Adapter(pipeline=payments))

An answer whose status counts as a failure is one to breakers and retries, and still comes back as an answer.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Container, Iterator
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from backstay.errors import Misuse
from backstay.url import require

from ..pipeline import Pipeline
from ..policy import Settle
from ..timeout import deadline_header, within
from .answers import SERVER_ERRORS, FailedAnswer
from .outgoing import IDEMPOTENT, Outgoing, check_failures

require("requests", "http")

from requests import PreparedRequest, Response  # noqa: E402  # after the sentence that says how to install it
from requests.adapters import HTTPAdapter  # noqa: E402

__all__ = ["Adapter", "FailedAnswer"]


class _Requests:
    """What pipelines have to know of requests."""

    def repeatable(self, request: Any) -> bool:
        return isinstance(request.body, str | bytes | None)

    def follow(self, response: Response, settle: Settle) -> None:
        response.raw = _Raw(response.raw, settle)


class Adapter(HTTPAdapter):
    """Sends requests of a session through a pipeline; what it guarantees is as for `httpx.Transport`.

    Args:
        pipeline: for all hosts.
        per_host: or what makes the pipeline of a host (`"shop.example:8443"`), once for each.
        most_hosts: hosts beyond that share the pipeline of `_other`.
        failures: the statuses that are failures; the caller gets such an answer all the same.
        methods: the methods that retry may repeat.
        send_deadline: tell the service by a header what remains of the deadline.
        options: those of `requests.adapters.HTTPAdapter`, such as `pool_maxsize`. Leave `max_retries` at 0: those
            are repeated without the pipeline's knowing.

    Raises:
        Misuse: an argument is wrong, or a policy cannot stand here (hedge, or a timeout without threads).
        MissingExtra: requests is not installed.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline | None = None,
        per_host: Callable[[str], Pipeline] | None = None,
        most_hosts: int = 200,
        failures: Container[int] = SERVER_ERRORS,
        methods: Collection[str] = IDEMPOTENT,
        send_deadline: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._send_deadline = send_deadline
        self._outgoing = Outgoing(
            pipeline, per_host,
            most_hosts=most_hosts, failures=check_failures(failures), methods=methods,
            wire=_Requests(), attempt=self._attempt, is_async=False,
        )  # fmt: skip

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send `request` through its pipeline."""
        names = ("stream", "timeout", "verify", "cert", "proxies")
        options: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        outgoing = self._outgoing
        exchange, token = outgoing.begin()
        response: Response | None = None
        sending: Any = _Sending(request, partial(super().send, request), options)
        try:
            response = outgoing.chain(urlsplit(request.url or "").netloc.rpartition("@")[2])(sending)
        except FailedAnswer as failed:
            response = failed.response
            if response is None:
                raise
        finally:
            outgoing.end(token)
            if exchange.failed is not None and exchange.failed is not response:
                exchange.failed.close()
        if not isinstance(response, Response):
            raise Misuse(f"a fallback in a session's pipeline must answer with a requests.Response, got {response!r}")
        return response

    def _attempt(self, sending: _Sending) -> Response:
        outgoing = self._outgoing
        earlier = outgoing.earlier()
        if earlier is not None:
            earlier.close()
        options = {**sending.options, "timeout": _shortened(sending.options.get("timeout"))}
        if self._send_deadline:
            sending.headers.update(deadline_header())
        response = sending.send(**options)
        found: Response = outgoing.judged(response, response.status_code)
        return found


class _Sending:
    """A request on its way, with how the session wants it sent; to keys of limits it is the request."""

    __slots__ = ("options", "request", "send")

    def __init__(self, request: PreparedRequest, send: Callable[..., Response], options: dict[str, Any]) -> None:
        self.request = request
        self.send = send
        self.options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)


class _Raw:
    """The raw body of an answer, which tells when it ends; all else is the body's own."""

    def __init__(self, raw: Any, settle: Settle) -> None:
        self._raw = raw
        self._settle = settle
        weakref.finalize(self, settle, None).atexit = False  # nobody closed it: the permit comes back all the same

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        try:
            yield from self._raw.stream(*args, **kwargs)
        except GeneratorExit:  # left half way: the caller closes the answer
            raise
        except BaseException as error:
            self._settle(error)
            raise
        self._settle(None)

    def read(self, *args: Any, **kwargs: Any) -> Any:
        try:
            found = self._raw.read(*args, **kwargs)
        except BaseException as error:
            self._settle(error)
            raise
        if not found or not (args or "amt" in kwargs):
            self._settle(None)
        return found

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            self._settle(None)

    def release_conn(self) -> None:
        try:
            self._raw.release_conn()
        finally:
            self._settle(None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def _shortened(timeout: Any) -> Any:
    """Return a session's timeout shortened to what remains of the deadline.

    Raises:
        DeadlineExceeded: nothing remains, and nothing was sent.
    """
    if isinstance(timeout, tuple):
        connect, read = cast("tuple[float | None, float | None]", timeout)
        return within(connect), within(read)
    if timeout is None or isinstance(timeout, int | float):
        return within(timeout)
    within()  # a urllib3 Timeout is the caller's own business; but nothing begins after the deadline
    return timeout
