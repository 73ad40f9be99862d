"""One HTTP request of the delivery, within a limit of time that nothing exceeds."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import quote

from backstay.errors import Misuse, Unavailable
from backstay.url import Url

__all__ = ["Answer", "Place"]


class Place:
    """Where a service is: `http://:TOKEN@host:port/app/env`, and `https://` likewise.

    Args:
        url: parsed.
        token: instead of the one in the URL.

    Raises:
        Misuse: the URL names no host or no scope.
    """

    def __init__(self, url: Url, *, token: str | None) -> None:
        parts = [part for part in url.path.split("/") if part]
        if not url.host or len(url.hosts) != 1 or len(parts) < 2:
            raise Misuse(
                f"{str(url)!r} must be like http://host:8321/shop/production: one service, then app/environment"
            )
        self._secure = url.scheme == "https"
        self._host = url.host
        self._port = url.port or (443 if self._secure else 80)
        self._token = token or url.password or url.username
        self._context = ssl.create_default_context() if self._secure else None
        self.scope = "/".join(parts[-2:])
        self.prefix = "".join("/" + quote(part) for part in parts[:-2])
        self.name = f"{url.scheme}://{self._host}:{self._port}{url.path}"

    def path(self, *, end: str = "") -> str:
        """Return the path of the scope's document, or of `end` below it."""
        return f"{self.prefix}/v1/config/{quote(self.scope)}{end}"

    def ask(
        self,
        path: str,
        *,
        within: float,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request and return its answer once the head of it is there.

        Raises:
            Unavailable: there was none within `within` seconds.
        """
        sent = {"Accept": "application/json", "User-Agent": "backstay", "Connection": "close", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        connection: http.client.HTTPConnection = (
            http.client.HTTPConnection(self._host, self._port, timeout=within)
            if self._context is None
            else http.client.HTTPSConnection(self._host, self._port, timeout=within, context=self._context)
        )
        try:
            connection.connect()
            connected = connection.sock
            watchdog = threading.Timer(within, _cut, [connected])  # a server that drips keeps each single read alive
            watchdog.daemon = True
            watchdog.start()
            try:
                connection.request(method, path, body=body, headers=sent)
                return Answer(self.name, connection, connected, connection.getresponse(), watchdog)
            except BaseException:
                watchdog.cancel()
                raise
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable(f"{self.name} does not answer: {str(error) or type(error).__name__}") from error


class Answer:
    """The answer to one request; closed by `with`."""

    def __init__(
        self,
        name: str,
        connection: http.client.HTTPConnection,
        connected: socket.socket,
        response: http.client.HTTPResponse,
        watchdog: threading.Timer,
    ) -> None:
        self._name = name
        self._connection = connection
        self._response = response
        self._watchdog = watchdog
        self.socket = connected
        self.status = response.status
        self.headers = response.headers

    def read(self, most: int) -> bytes:
        """Return the whole body, of at most `most` bytes.

        Raises:
            Unavailable: it ended early.
            Misuse: it is longer.
        """
        try:
            body = self._response.read(most + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self._name} broke off: {str(error) or type(error).__name__}") from error
        if len(body) > most:
            raise Misuse(f"{self._name} answers more than {most:,} bytes; is that a switch service?")
        left = self._response.length  # of what the head promised
        if left:
            raise Unavailable(f"{self._name} broke off {left:,} bytes before the end")
        return body

    def line(self, most: int) -> bytes:
        """Return the next line of a stream, or nothing at its end."""
        return self._response.readline(most)

    def last(self, *, silence: float) -> None:
        """Let the answer go on for as long as it likes, if no silence in it is longer than `silence` seconds."""
        self._watchdog.cancel()
        self.socket.settimeout(silence)

    def cut(self) -> None:
        """End it from another thread, which reads its end."""
        _cut(self.socket)

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.cancel()
        self._response.close()
        self._connection.close()


def _cut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already
