"""What is needed to reach an ensemble: read from a URL, or from a client that the user has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backstay.errors import Misuse
from backstay.url import Url

from .client import Client

__all__ = ["Settings", "of_client", "of_url"]

PATIENCE = 2.0  # s for one exchange
SESSION = 10.0  # s asked for; the servers may give more or less
PORT = 2181
SHORTEST, LONGEST = 0.5, 3600.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an ensemble is reached.

    Args:
        hosts: `host:port` of the servers, separated by commas.
        chroot: what all paths begin with, `""` or `/...`.
        auth: `user:password` for the scheme `digest`, None for none.
        session: seconds that the ensemble is asked to keep a silent session.
        patience: seconds that one exchange may take.
        label: what errors call it.
        tls: kazoo's own names for certificates and the like.
        client: the user's own client, where there is one.
    """

    hosts: str
    chroot: str
    session: float
    patience: float
    label: str
    auth: str | None = field(default=None, repr=False)
    tls: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    client: Client | None = None


def of_url(url: Url, answer_within: float | None) -> Settings:
    """Read `zookeeper://user:password@host:port,host:port/chroot?session=10`."""
    if not url.hosts:
        raise Misuse(f"{str(url)!r}: name the servers, as in 'zookeeper://zk1:2181,zk2:2181,zk3:2181/app'")
    unknown = sorted(set(url.query) - {"session"})
    if unknown:
        raise Misuse(f"{str(url)!r}: unknown option {unknown[0]!r}; there is session=SECONDS")
    parts = [part for part in url.path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise Misuse(f"{str(url)!r}: a chroot has neither '.' nor '..'")
    if (url.username is None) != (url.password is None):
        raise Misuse(f"{str(url)!r}: digest authentication needs a user and a password")
    hosts = ",".join(_place(host, port) for host, port in url.hosts)
    chroot = "".join(f"/{part}" for part in parts)
    return Settings(
        hosts=hosts,
        chroot=chroot,
        auth=None if url.username is None else f"{url.username}:{url.password}",
        session=_seconds(url, url.query.get("session", "")),
        patience=answer_within or PATIENCE,
        label=f"zookeeper://{hosts}{chroot}",
    )


def _place(host: str, port: int | None) -> str:
    return f"[{host}]:{port or PORT}" if ":" in host else f"{host}:{port or PORT}"


def _seconds(url: Url, text: str) -> float:
    if not text:
        return SESSION
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not SHORTEST <= value <= LONGEST:
        raise Misuse(f"{str(url)!r}: session must be {SHORTEST:g} to {LONGEST:g} s, got {text!r}")
    return value


def of_client(client: object, answer_within: float | None) -> Settings:
    """Describe a `KazooClient`; its session is used, and never closed here.

    Raises:
        Misuse: it is of another kind, or its handler is not that of threads.
    """
    given: Any = client
    if type(given.handler).__name__ != "SequentialThreadingHandler":
        raise Misuse(
            f"locks cannot wait on a KazooClient with {type(given.handler).__name__}; "
            "use kazoo's SequentialThreadingHandler, its default"
        )
    hosts = ",".join(_place(host, port) for host, port in given.hosts)
    names = ("use_ssl", "keyfile", "keyfile_password", "certfile", "ca", "verify_certs", "check_hostname")
    return Settings(
        hosts=hosts,
        chroot="",  # the client's own comes before all its paths
        session=given._session_timeout / 1000.0,
        patience=answer_within or PATIENCE,
        label=f"zookeeper://{hosts}{given.chroot}",
        tls={name: getattr(given, name) for name in names},
        client=given,
    )
