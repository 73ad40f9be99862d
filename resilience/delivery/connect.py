"""Sources by URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from backstay.errors import Misuse
from backstay.url import Url, choose, parse, require

from .port import Source
from .sources.file import FileSource
from .sources.memory import MemorySource

__all__ = ["SOURCES", "source_of"]


def source_of(url: str | Path) -> Source:
    """Return the source of a URL: `file:///etc/shop/switches.toml`, `memory://`, `http://:TOKEN@host:8321/shop/production`.

    Raises:
        Misuse: the URL is malformed, or of a kind that no source has.
    """
    if isinstance(url, Path):
        return FileSource(url)
    found = parse(url)
    return choose(found, SOURCES, what="switch")(found)


def _file(url: Url) -> Source:
    if url.hosts and url.host != "localhost":
        raise Misuse(f"{url.raw!r} names a host; write three slashes: file:///{url.host}{unquote(url.path)}")
    push = url.query.get("push")
    if push is None:
        return FileSource(url.path)
    if push != "watchfiles":
        raise Misuse(f"push of a file is 'watchfiles', got {push!r}; leave it out to look every interval")
    from .sources.watched_file import WatchedFileSource

    return WatchedFileSource(url.path)


def _memory(url: Url) -> Source:
    return MemorySource()


def _http(url: Url) -> Source:
    from .sources.http import HttpSource  # TLS and HTTP take their time to import

    push: Any = url.query.get("push", "events")
    return HttpSource(url.raw, push=push)


def _redis(url: Url) -> Source:
    require("redis", "redis")
    from .backends.redis import RedisSource

    return RedisSource(url.raw)


def _zookeeper(url: Url) -> Source:
    require("kazoo", "zookeeper")
    from .backends.zookeeper import ZookeeperSource

    return ZookeeperSource(url.raw)


SOURCES: dict[str, Callable[[Url], Source]] = {
    "file": _file,
    "memory": _memory,
    "http": _http,
    "https": _http,
    **{f"{secure}{kind}": _redis for secure in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster")},
    "zookeeper": _zookeeper,
}
