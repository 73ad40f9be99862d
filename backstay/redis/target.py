"""Which servers: one, those that Sentinel watches, or a Cluster; read from a URL or from the client of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import redis
import redis.asyncio

from backstay.errors import Misuse
from backstay.url import Url, mask, parse

from .route import Place
from .settings import KEPT, PATIENCE, Settings, database, kept

__all__ = ["SCHEMES", "Shape", "Target", "of_client", "of_url", "target"]

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
"""The schemes that `of_url` reads; with `rediss`, every connection is encrypted, those to Sentinels included."""

_FOR_CLIENTS = frozenset(
    {"socket_timeout", "decode_responses", "protocol", "health_check_interval", "retry_on_timeout", "max_connections"}
    | {"encoding", "encoding_errors"}
)
"""Options of a URL that mean something to a client and nothing here, except for the first."""
_OURS = frozenset({"min_replicas", "eviction", "sentinel_username", "sentinel_password"})
_SENTINEL_PORT = 26379
_EVICTION = ("refuse", "allow")


class Shape(Enum):
    """How the servers stand together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The servers, how to introduce oneself to them, and what is asked of them.

    Args:
        shape: how they stand together.
        settings: of the server, or those that all of them share.
        label: their name in errors, without secrets.
        patience: seconds for one exchange.
        places: the Sentinels, or the nodes of a Cluster to begin with.
        service: the name that Sentinels know the master by.
        sentinel: how to introduce oneself to Sentinels.
        min_replicas: how many replicas have to confirm a grant.
        eviction: `refuse` or `allow` servers that may evict keys.
        remap: from the address that a Cluster tells to the one that leads there.
    """

    shape: Shape = Shape.SINGLE
    settings: Settings
    label: str
    patience: float = PATIENCE
    places: tuple[Place, ...] = ()
    service: str = ""
    sentinel: Settings = field(default_factory=Settings)
    min_replicas: int = 0
    eviction: str = "refuse"
    remap: Callable[[Place], Place] | None = None

    def __post_init__(self) -> None:
        given: Any = self.min_replicas
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 100:
            raise Misuse(f"min_replicas must be a number from 0 to 100, got {given!r}")
        if self.eviction not in _EVICTION:
            raise Misuse(f"eviction must be 'refuse' or 'allow', got {self.eviction!r}")
        if self.shape is not Shape.SINGLE and not self.places:
            raise Misuse(f"{self.label}: name at least one host")
        if self.shape is Shape.SENTINEL and not self.service:
            raise Misuse(f"{self.label}: name the master, as in 'redis+sentinel://host:26379/NAME/0'")
        if self.shape is Shape.CLUSTER and self.settings.db:
            raise Misuse(f"{self.label}: a Redis Cluster has database 0 only, got {self.settings.db}")

    @property
    def identity(self) -> tuple[object, ...]:
        """What two targets of the same servers and user have in common; it can be a key. Never show it."""
        places = self.places if self.shape is not Shape.SINGLE else ()
        return self.shape, self.settings.identity, places, self.service, self.sentinel.identity

    def __str__(self) -> str:
        return self.label

    def with_demands(self, min_replicas: int | None, eviction: str | None) -> Target:
        """Return this target with what the caller asks of the servers; None leaves what the URL says.

        Raises:
            Misuse: one of them is out of range.
        """
        return replace(
            self,
            min_replicas=self.min_replicas if min_replicas is None else min_replicas,
            eviction=self.eviction if eviction is None else eviction,
        )


def target(given: object, answer_within: float | None = None) -> Target:
    """Read a URL, or copy the settings of a client.

    Raises:
        Misuse: neither, or a kind of client whose servers cannot be known.
    """
    return of_url(parse(given), answer_within) if isinstance(given, str) else of_client(given, answer_within)


# -- from a URL


def of_url(url: Url, answer_within: float | None = None) -> Target:
    """Read a URL with one of `SCHEMES`, its options as redis-py does.

        redis://[user:password@]host[:port][/db]        unix:///path[?db=1]
        redis+sentinel://[user:password@]host[:port],.../service[/db]
        redis+cluster://[user:password@]host[:port],...

    Options of ours: `min_replicas=1`, `eviction=allow`, `sentinel_username`, `sentinel_password`.

    Raises:
        Misuse: there is a mistake in it.
    """
    unknown = sorted(set(url.query) - KEPT - _FOR_CLIENTS - _OURS)
    if unknown:
        known = ", ".join(sorted(KEPT | {"socket_timeout"} | _OURS))
        raise Misuse(f"{str(url)!r}: a Redis URL has no option {unknown[0]!r}; known: {known}")
    secure, _, kind = url.scheme.partition("+")
    demands: dict[str, Any] = {"min_replicas": _count(url), "eviction": url.query.get("eviction", "refuse")}
    if not kind:
        if secure != "unix" and url.path.strip("/"):
            database(url.path.strip("/"))  # redis-py takes database 0 where it cannot read the number
        pool = _read(url, url.raw)
        return _single(pool, str(url), answer_within, "socket_timeout" in url.query, demands)
    parts = [part for part in url.path.split("/") if part]
    if kind == "cluster":
        return _clustered(url, secure, parts, answer_within, demands)
    if len(parts) > 2:
        raise Misuse(f"{str(url)!r}: expected 'redis+sentinel://host:port,host:port/NAME/DATABASE'")
    number = database(parts[1]) if len(parts) == 2 else 0
    single = _single(
        _read(url, _alone(url, secure, number)), str(url), answer_within, "socket_timeout" in url.query, demands
    )
    about = {
        name: value
        for name, value in single.settings.options.items()
        if name not in {"username", "password", "credential_provider", "db"}
    }
    own = {name: url.query.get(f"sentinel_{name}") for name in ("username", "password")}
    about |= {name: value for name, value in own.items() if value is not None}
    return replace(
        single,
        shape=Shape.SENTINEL,
        places=_places(url, _SENTINEL_PORT),
        service=parts[0] if parts else "",
        sentinel=Settings(kind=single.settings.kind, options=about),
    )


def _clustered(url: Url, secure: str, parts: list[str], answer_within: float | None, demands: dict[str, Any]) -> Target:
    if len(parts) > 1:
        raise Misuse(f"{str(url)!r}: expected 'redis+cluster://host:port,host:port'")
    number = database(parts[0]) if parts else 0
    alone = _read(url, _alone(url, secure, number))
    single = _single(alone, str(url), answer_within, "socket_timeout" in url.query, demands)
    return replace(single, shape=Shape.CLUSTER, places=_places(url, 6379))


def _alone(url: Url, secure: str, number: int) -> str:
    """Return the URL as one of a single server, which redis-py can read."""
    user, parts = url.split()
    query = f"?{parts.query}" if parts.query else ""
    return f"{secure}://{user}{'@' if user else ''}localhost/{number}{query}"


def _places(url: Url, port: int) -> tuple[Place, ...]:
    return tuple((host, given or port) for host, given in url.hosts)


def _count(url: Url) -> int:
    text = url.query.get("min_replicas", "0")
    if not text.isascii() or not text.isdigit():
        raise Misuse(f"{str(url)!r}: min_replicas is a number such as 1, got {text!r}")
    return int(text)


def _read(url: Url, raw: str) -> Any:
    reader: Any = redis.Redis  # its from_url is typed in part only
    try:
        return reader.from_url(raw).connection_pool
    except (ValueError, TypeError) as error:
        raise Misuse(f"{str(url)!r}: {mask(str(error))}") from None


# -- from a client


def of_client(client: object, answer_within: float | None = None) -> Target:
    """Copy the settings of a `redis.Redis`, a `RedisCluster` or a Sentinel's `master_for(...)`, of either make.

    Raises:
        Misuse: it is something else, or reads from replicas.
    """
    if isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        return _of_cluster(client, answer_within)
    pool: Any = getattr(client, "connection_pool", None)
    if not isinstance(client, (redis.Redis, redis.asyncio.Redis)) or pool is None:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise Misuse(f"pass a URL, a redis.Redis or a RedisCluster (or its asyncio twin), not {kind}")
    if hasattr(pool, "sentinel_manager"):
        return _of_sentinel(pool, answer_within)
    return _single(pool, "", answer_within, True, {})


def _single(pool: Any, label: str, answer_within: float | None, timeout_given: bool, demands: dict[str, Any]) -> Target:
    settings = Settings(kind=_kind(pool.connection_class), options=kept(pool.connection_kwargs))
    return Target(
        settings=settings,
        label=label or settings.label,
        patience=_patience(pool.connection_kwargs if timeout_given else {}, answer_within),
        **demands,
    )


def _of_sentinel(pool: Any, answer_within: float | None) -> Target:
    if not pool.is_master:
        raise Misuse("a client of replicas cannot write; pass Sentinel.master_for(...)")
    settings = Settings(kind=_kind(pool.connection_class), options=kept(pool.connection_kwargs))
    watching: list[Any] = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
    if not watching:
        raise Misuse("this Sentinel client names no Sentinel")
    about = kept(watching[0].connection_kwargs)
    places = tuple(
        (each.connection_kwargs.get("host", "localhost"), int(each.connection_kwargs.get("port", _SENTINEL_PORT)))
        for each in watching
    )
    return Target(
        shape=Shape.SENTINEL,
        settings=settings,
        label=f"redis+sentinel://{_named(places)}/{pool.service_name}/{settings.db}",
        patience=_patience(pool.connection_kwargs, answer_within),
        places=places,
        service=str(pool.service_name),
        sentinel=Settings(kind=_kind(watching[0].connection_class), options=about),
    )


def _of_cluster(client: Any, answer_within: float | None) -> Target:
    nodes = client.nodes_manager
    given: dict[str, Any] = nodes.connection_kwargs
    known: Iterable[Any] = [*nodes.startup_nodes.values(), *nodes.nodes_cache.values()]
    places = tuple(dict.fromkeys((str(node.host), int(node.port)) for node in known))
    secure = bool(given.get("ssl")) or _kind(given.get("connection_class") or redis.Connection) == "tls"
    return Target(
        shape=Shape.CLUSTER,
        settings=Settings(kind="tls" if secure else "tcp", options=kept({**given, "db": 0})),
        label=f"redis+cluster://{_named(places)}",
        patience=_patience(given, answer_within),
        places=places,
        remap=getattr(nodes, "address_remap", None),
    )


def _kind(connection_class: type) -> str:
    for kind in connection_class.__mro__:
        if kind.__name__ in {"SSLConnection", "UnixDomainSocketConnection", "Connection"}:
            if kind is not connection_class and kind.__module__.partition(".")[0] != "redis":
                continue
            return {"SSLConnection": "tls", "UnixDomainSocketConnection": "unix"}.get(kind.__name__, "tcp")
    raise Misuse(f"connections of the kind {connection_class.__name__} are not known; pass a URL")


def _patience(given: Any, answer_within: float | None) -> float:
    timeout = given.get("socket_timeout")
    return answer_within or (float(timeout) if timeout else PATIENCE)


def _named(places: tuple[Place, ...]) -> str:
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
