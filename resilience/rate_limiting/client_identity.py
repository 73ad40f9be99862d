"""Who a request comes from, for keys: counted from the right of `X-Forwarded-For`, never taken from its left (P12).

Each proxy appends the address that connected to it, so the entries at the right are the ones that our own proxies
wrote, and whatever is left of them anybody may have made up. With one proxy of ours the last entry is the client,
with two the last but one. How many there are is a fact of the deployment: nothing in a request can tell it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping, Sequence
from typing import Any, cast

from backstay.errors import Misuse

__all__ = ["UNIX", "ClientAddress", "client_address"]

UNIX = "unix"
"""The client of a request that came over a unix socket and names nobody."""


class ClientAddress:
    """A key function: the address of the client, normalised.

    Guarantees: a client cannot choose its key, as long as only `trusted_hops` proxies of ours reach this process; an
    IPv6 client counts as its network, since a household has 2^64 addresses of it; an IPv4 address inside IPv6 is
    that IPv4 address. Where the header has fewer entries than hops, or what stands there is no address, the
    request did not come the way that was configured, and the address of the connection itself is the key.

    Args:
        trusted_hops: how many proxies of ours a request passes, 0 if clients connect directly.
        ipv6_prefix: bits of an IPv6 address that make a client, 1 to 128.
        proxies: networks of those proxies, such as `10.0.0.0/8`. From any other peer the header is ignored.

    Raises:
        Misuse: a value is out of range.
    """

    def __init__(self, *, trusted_hops: int = 0, ipv6_prefix: int = 64, proxies: Sequence[str] = ()) -> None:
        if type(trusted_hops) is not int or not 0 <= trusted_hops <= 32:
            raise Misuse(f"trusted_hops must be a whole number from 0 to 32, got {trusted_hops!r}")
        if type(ipv6_prefix) is not int or not 1 <= ipv6_prefix <= 128:
            raise Misuse(f"ipv6_prefix must be a whole number from 1 to 128, got {ipv6_prefix!r}")
        if isinstance(proxies, str):
            raise Misuse(f"proxies must be a list of networks, got the text {proxies!r}")
        if proxies and not trusted_hops:
            raise Misuse("proxies are given, and trusted_hops is 0: say how many of them a request passes")
        try:
            self._proxies = tuple(ipaddress.ip_network(each) for each in proxies)
        except ValueError as error:
            raise Misuse(f"proxies: {error}") from error
        self._hops = trusted_hops
        self._prefix = ipv6_prefix

    def __call__(self, request: Any = None) -> str:
        """Return the client of a request.

        Args:
            request: a WSGI environ, an ASGI scope, or an object that has one as `environ` or `scope`, as the
                requests of Flask, FastAPI and Starlette have; Flask's current request where it is left out.

        Raises:
            Misuse: it is none of these.
        """
        found = _mapping_of(_current() if request is None else request)
        if "REQUEST_METHOD" in found:
            return self.of(found.get("REMOTE_ADDR"), found.get("HTTP_X_FORWARDED_FOR", ""))
        if "type" in found:
            client = found.get("client")  # None on a unix socket
            fields = [value.decode("latin-1") for name, value in found["headers"] if name == b"x-forwarded-for"]
            return self.of(client[0] if client else None, ",".join(fields))
        raise Misuse(f"client_address needs a WSGI environ, an ASGI scope or a request, got {type(request).__name__}")

    def of(self, peer: str | None, forwarded_for: str) -> str:
        """Return the client, given the address of the connection and the header's values joined by commas."""
        connected = _address(peer or "")
        if self._hops and (not self._proxies or self._is_proxy(connected)):
            entries = forwarded_for.rsplit(",", self._hops)[-self._hops :] if forwarded_for else []
            if len(entries) == self._hops:
                client = _address(entries[0].strip())
                if client is not None:
                    return self._text(client)
        return UNIX if connected is None else self._text(connected)

    def _is_proxy(self, peer: _Address | None) -> bool:
        # What connects over a unix socket is on this machine: the proxy in front of the server.
        return peer is None or any(peer in network for network in self._proxies)

    def _text(self, address: _Address) -> str:
        if isinstance(address, ipaddress.IPv4Address) or self._prefix == 128:
            return str(address)
        return str(ipaddress.ip_network((address, self._prefix), strict=False))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(*, trusted_hops: int = 0, ipv6_prefix: int = 64, proxies: Sequence[str] = ()) -> ClientAddress:
    """Return a key function for requests; see `ClientAddress`."""
    return ClientAddress(trusted_hops=trusted_hops, ipv6_prefix=ipv6_prefix, proxies=proxies)


def _current() -> Any:
    from flask import globals as flask_globals  # where the framework is used without arguments, it is Flask

    return flask_globals.request


def _mapping_of(request: Any) -> dict[str, Any]:
    """Return the environ or scope that `request` is or has; nothing where there is none."""
    for found in (request, getattr(request, "environ", None), getattr(request, "scope", None)):
        if isinstance(found, MutableMapping):
            return cast("dict[str, Any]", found)
    return {}


def _address(text: str) -> _Address | None:
    """Return the address in `text`, which may have a port behind it and brackets round it, or None."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # the zone of a link-local address is ours, not theirs
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
