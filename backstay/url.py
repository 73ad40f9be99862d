"""Backends are named by URLs; passwords in them never leave this module unmasked.

`memory://`, `file:///path`, `redis://`, `rediss://`, `zookeeper://a,b,c/chroot`, `http://`, and what
SQLAlchemy reads. A URL with a mistake in it is refused when it is read, and the text of the refusal
says what was expected.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from backstay.errors import MissingExtra, Misuse

__all__ = ["Url", "choose", "mask", "parse", "require"]

T = TypeVar("T")

_SENSITIVE = r"password|passwd|pwd|token|secret|api_?key|access_?key|auth"
# Greedy up to the last @ of the word: a password may hold @, / and ? that nobody escaped. Masking too much
# is the safe side.
_USER_INFO = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#:@]*):\S*@")
_QUERY = re.compile(rf"(?P<head>[?&;]\s*(?:[\w.\-]*(?:{_SENSITIVE})[\w.\-]*)=)[^&;\s#]+", re.IGNORECASE)


def mask(text: str) -> str:
    """Return `text` with the passwords of URLs in it, and secret-looking query values, replaced by `***`."""
    return _QUERY.sub(r"\g<head>***", _USER_INFO.sub(r"\g<head>:***@", text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A parsed backend URL; `str` and `repr` show it masked.

    `hosts` are (name, port) pairs in the order given, `port` being None where the URL has none.
    """

    scheme: str
    hosts: tuple[tuple[str, int | None], ...] = ()
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: str = field(repr=False)

    @property
    def host(self) -> str:
        """The first host's name, or an empty text."""
        return self.hosts[0][0] if self.hosts else ""

    @property
    def port(self) -> int | None:
        """The first host's port."""
        return self.hosts[0][1] if self.hosts else None

    def split(self) -> tuple[str, SplitResult]:
        """Return the user information as it was written, and the parts behind the hosts."""
        head, _, rest = self.raw.partition("://")
        netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
        return netloc.rpartition("@")[0], urlsplit(f"{head}://{rest[len(netloc) :]}")

    def __str__(self) -> str:
        return mask(self.raw)

    def __repr__(self) -> str:
        return f"Url({mask(self.raw)!r})"


def parse(url: str) -> Url:
    """Read a backend URL.

    Raises:
        Misuse: it has no scheme, a port that is no port, or an empty host among several.
    """
    given: Any = url  # callers may be untyped
    text = given.strip() if isinstance(given, str) else ""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)", text)
    if match is None:
        shown = mask(text) if isinstance(given, str) else type(given).__name__
        raise Misuse(f"{shown!r} is no backend URL; expected something like 'redis://localhost:6379/0' or 'memory://'")
    scheme, netloc = match.groups()
    # Only what follows goes through urlsplit: it takes several hosts with an IPv6 address among them for malformed.
    parts = urlsplit(f"{scheme}://{text[match.end() :]}")
    if "@" not in netloc and "@" in text.partition("://")[2]:
        raise Misuse(f"malformed URL {mask(text)!r}: write '/', '?', '#' in a password as %2F, %3F, %23")
    user_info, _, places = netloc.rpartition("@")
    username, colon, password = user_info.partition(":")
    hosts = tuple(_place(place, text) for place in places.split(",")) if places else ()
    return Url(
        scheme=scheme.lower(),
        hosts=hosts,
        username=unquote(username) if username else None,
        password=unquote(password) if colon else None,
        path=unquote(parts.path),
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        raw=text,
    )


def _place(place: str, text: str) -> tuple[str, int | None]:
    if place.count("[") != place.count("]"):
        raise Misuse(f"malformed URL {mask(text)!r}: an IPv6 address stands in brackets, as in [::1]:6379")
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):  # no port; an IPv6 address stands in brackets
        host, port = place, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise Misuse(f"malformed URL {mask(text)!r}: a host is missing")
    if colon and not place.endswith("]") and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise Misuse(f"malformed URL {mask(text)!r}: {port!r} is no port; expected a number from 1 to 65535")
    return host, int(port) if port else None


def choose(url: Url, backends: Mapping[str, T], *, what: str) -> T:
    """Return the entry of `backends` for the URL's scheme.

    Raises:
        Misuse: no entry has that scheme; the text names those that there are. `what` says of what.
    """
    try:
        return backends[url.scheme]
    except KeyError:
        known = ", ".join(f"{scheme}://" for scheme in sorted(backends))
        raise Misuse(f"no {what} backend for {url.scheme!r} in {str(url)!r}; known: {known}") from None


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtra: it is not installed; the text names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is installed and broken: its own error says more
        raise MissingExtra(f"{module!r} is not installed; pip install 'backstay[{extra}]'") from error
