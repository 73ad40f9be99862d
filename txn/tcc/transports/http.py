"""Branches behind HTTP, in two makes over httpx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from backstay.errors import Misuse
from backstay.telemetry import traceparent
from backstay.url import require

from ...values import Answer, Reply, dump
from ...wire import headers, read_answer
from ..hosts import rewrite
from ..transport import Request

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncHttp", "Http"]

Hosts: TypeAlias = "Mapping[str, str | httpx.BaseTransport]"
AsyncHosts: TypeAlias = "Mapping[str, str | httpx.AsyncBaseTransport]"


def _failed(error: Exception) -> Reply:
    """Return what an httpx error means: only a connection that was never made is certain."""
    httpx: Any = require("httpx", "http")
    unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol))
    answer = Answer.UNSENT if unsent else Answer.UNKNOWN
    return Reply(answer=answer, text=f"{type(error).__name__}: {error}".rstrip(": "), error=error)


def _parts(request: Request, bases: Mapping[str, str]) -> tuple[str, bytes, dict[str, str]]:
    url = f"{rewrite(request.target.address, bases)}/{request.branch.phase.value}"
    body = dump(dict(request.branch.payload), what="the payload").encode()
    return url, body, headers(request.branch, traceparent())


def _split(hosts: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return base URLs and transports by host."""
    bases: dict[str, str] = {}
    transports: dict[str, Any] = {}
    for host, where in hosts.items():
        if "/" in host or not host:
            raise Misuse(f"{host!r} is no host; map names such as 'stock' to a base URL or an httpx transport")
        if not isinstance(where, str):
            transports[host] = where
        elif urlsplit(where).scheme in ("http", "https"):
            bases[host] = where
        else:
            raise Misuse(f"host {host!r} is mapped to {where[:100]!r}; expected an http URL or an httpx transport")
    return bases, transports


class Http:
    """Sends through an `httpx.Client`; hosts with a transport of their own get a client of their own."""

    def __init__(self, hosts: Hosts, client: httpx.Client | None = None) -> None:
        self._bases, self._transports = _split(hosts)
        self._given = client
        self._own: dict[str, httpx.Client] = {}

    def reborn(self) -> None:
        """Forget, in a forked child, connections that belong to the parent."""
        self._own = {}

    def _client(self, host: str) -> httpx.Client:
        transport = self._transports.get(host)
        if transport is None and self._given is not None:
            return self._given
        name = host if transport is not None else ""
        client = self._own.get(name)
        if client is None:
            httpx: Any = require("httpx", "http")
            # Services talk to each other directly: a proxy from the environment must not come between.
            client = self._own.setdefault(name, httpx.Client(transport=transport, trust_env=False))
        return client

    async def send(self, request: Request) -> Reply:
        """Send once."""
        url, body, names = _parts(request, self._bases)
        try:
            response = self._client(urlsplit(request.target.address).netloc).post(
                url, content=body, headers=names, timeout=request.timeout, follow_redirects=False
            )
        except Exception as error:
            return _failed(error)
        return read_answer(response.status_code, response.content)

    def close(self) -> None:
        """Close the clients made here, not one that was handed in."""
        for client in self._own.values():
            client.close()
        self._own.clear()


class AsyncHttp:
    """Sends through an `httpx.AsyncClient`; hosts with a transport of their own get a client of their own."""

    def __init__(self, hosts: AsyncHosts, client: httpx.AsyncClient | None = None) -> None:
        self._bases, self._transports = _split(hosts)
        self._given = client
        self._own: dict[str, httpx.AsyncClient] = {}

    def reborn(self) -> None:
        """Forget, in a forked child, connections that belong to the parent."""
        self._own = {}

    def _client(self, host: str) -> httpx.AsyncClient:
        transport = self._transports.get(host)
        if transport is None and self._given is not None:
            return self._given
        name = host if transport is not None else ""
        client = self._own.get(name)
        if client is None:
            httpx: Any = require("httpx", "http")
            # Services talk to each other directly: a proxy from the environment must not come between.
            client = self._own.setdefault(name, httpx.AsyncClient(transport=transport, trust_env=False))
        return client

    async def send(self, request: Request) -> Reply:
        """Send once."""
        url, body, names = _parts(request, self._bases)
        try:
            response = await self._client(urlsplit(request.target.address).netloc).post(
                url, content=body, headers=names, timeout=request.timeout, follow_redirects=False
            )
        except Exception as error:
            return _failed(error)
        return read_answer(response.status_code, response.content)

    async def close(self) -> None:
        """Close the clients made here, not one that was handed in."""
        for client in self._own.values():
            await client.aclose()
        self._own.clear()
