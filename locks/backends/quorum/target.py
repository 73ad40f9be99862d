"""Which masters: from a URL that names all of them, or from a URL or client for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from backstay.errors import Misuse
from backstay.redis import Shape, Target, of_url, target
from backstay.url import Url, parse

__all__ = ["MAX_TTL", "Quorum", "quorum_of_each", "quorum_of_url"]

MAX_TTL = 60.0  # s
_LEAST, _MOST = 3, 15
_ANSWERS = {"yes": True, "no": False}
_OURS = ("fence", "max_ttl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """The masters, and what is asked of them together.

    Args:
        masters: 3 to 15 single servers, none of them twice; an even number bears no more failures than one less.
        fence: whether grants have fences, for which they ask the masters twice.
        max_ttl: seconds; the longest ttl that any process asks for, and the time for which a master that restarted
            stays out. The same in all processes.
    """

    masters: tuple[Target, ...]
    fence: bool = True
    max_ttl: float = MAX_TTL

    def __post_init__(self) -> None:
        count = len(self.masters)
        if not _LEAST <= count <= _MOST:
            raise Misuse(
                f"a quorum has {_LEAST} to {_MOST} masters, got {count}; with fewer than {_LEAST} none of them may fail"
            )
        for each in self.masters:
            if each.shape is not Shape.SINGLE:
                raise Misuse(f"{each}: the masters of a quorum are single servers that know nothing of each other")
            if each.min_replicas:
                raise Misuse(f"{each}: masters of a quorum need no replicas, so min_replicas has no meaning there")
        places = [(each.settings.path, each.settings.host, each.settings.port) for each in self.masters]
        if len(set(places)) < count:
            raise Misuse(f"{self.label}: a master is named twice, so its vote would count twice; name each once")
        if not (math.isfinite(self.max_ttl) and self.max_ttl > 0.0):
            raise Misuse(f"max_ttl must be a number of seconds above 0, got {self.max_ttl!r}")

    @property
    def label(self) -> str:
        """Their name in errors, without secrets."""
        return "redis+quorum://" + ",".join(each.settings.label.rpartition("://")[2] for each in self.masters)

    @property
    def patience(self) -> float:
        """Seconds for one exchange."""
        return min(each.patience for each in self.masters)

    @property
    def within(self) -> float:
        """Seconds that one master has to answer: an exchange has up to three rounds."""
        return self.patience / 4.0


def quorum_of_url(url: Url, answer_within: float | None) -> Quorum:
    """Read `redis+quorum://[user:password@]host:port,host:port,host:port[/database][?option=value...]`.

    Options of ours: `fence=no`, `max_ttl=30`; the others are those of `redis://` URLs, for all masters.

    Raises:
        Misuse: there is a mistake in it.
    """
    user, parts = url.split()
    rest = urlencode([(name, value) for name, value in parse_qsl(parts.query, True) if name not in _OURS])
    scheme = url.scheme.partition("+")[0]
    masters: list[Target] = []
    for host, port in url.hosts:
        place = f"[{host}]:{port or 6379}" if ":" in host else f"{host}:{port or 6379}"
        raw = f"{scheme}://{user}{'@' if user else ''}{place}{parts.path}{'?' if rest else ''}{rest}"
        masters.append(of_url(parse(raw), answer_within))
    return Quorum(masters=tuple(masters), fence=_fence(url), max_ttl=_max_ttl(url))


def quorum_of_each(given: Sequence[object], answer_within: float | None) -> Quorum:
    """Read a URL or copy the settings of a client for each master.

    Raises:
        Misuse: one of them is none, or no single server.
    """
    return Quorum(masters=tuple(target(each, answer_within) for each in given))


def _fence(url: Url) -> bool:
    text = url.query.get("fence", "yes")
    if text not in _ANSWERS:
        raise Misuse(f"{str(url)!r}: fence is 'yes' or 'no', got {text!r}")
    return _ANSWERS[text]


def _max_ttl(url: Url) -> float:
    text = url.query.get("max_ttl", str(MAX_TTL))
    try:
        return float(text)
    except ValueError:
        raise Misuse(f"{str(url)!r}: max_ttl is a number of seconds such as 60, got {text!r}") from None
