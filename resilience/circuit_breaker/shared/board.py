"""Breakers of several instances that warn each other (CB-9)."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from backstay.errors import BackstayError, Misuse
from backstay.url import require

from ...forks import renew_in_child
from ...policy import fraction, seconds
from ..policy import CircuitBreaker
from ..states import State
from .daemon import exchange_regularly
from .member import Member
from .opinion import Question, override_text, quorum

if TYPE_CHECKING:
    from .store import Store

__all__ = ["SharedBreakers", "SharedView"]

logger = logging.getLogger("backstay.resilience")

_NAME = re.compile(r"[^\s{}:]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedView:
    """What the instances hold of one dependency.

    Attributes:
        live: instances that were heard lately.
        open: those that hold that it fails.
        quorum: how many of them would open the others.
        override: what an operator put on all of them.
    """

    live: int
    open: int
    quorum: int
    override: State | None


class SharedBreakers:
    """Lets breakers of the same name in several instances warn each other over Redis, and be overridden at once.

        shared = SharedBreakers.connect("redis://localhost/0", namespace="shop")
        shared.join(payments)

    Counting stays local, and no call ever waits for Redis: one background thread a process tells and asks, every
    `interval` seconds. More than `share` of the live instances, and at least two, have to see failures of their own
    before the others open as well. All instances together let at most `probes` probes through at a time, and none
    while the wait after a failed round lasts. Without an answer from Redis each breaker is local.

    Not guaranteed: a process that was stopped for longer than the lease of its permits may probe beside others.
    """

    def __init__(self, store: Store, *, interval: float | None, share: float) -> None:
        self._store = store
        self._interval = interval
        self._share = share
        self._exchanging = threading.Lock()
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._answers = True
        self.owner = _owner()
        """How this process is called among the instances."""
        renew_in_child(self)

    @classmethod
    def connect(
        cls,
        store: object,
        *,
        namespace: str = "default",
        interval: float | None = 0.5,
        ttl: float = 3.0,
        share: float = 0.5,
        budget: float = 0.5,
    ) -> SharedBreakers:
        """Return the meeting place of a namespace; nothing is sent yet.

        Args:
            store: a URL such as `redis://`, `redis+sentinel://`, `redis+cluster://`, or a client of either make.
            namespace: instances of one namespace meet.
            interval: seconds between two exchanges; None for those who call `refresh` themselves.
            ttl: seconds after its last exchange for which an instance counts as alive.
            share: more than this share of the live instances has to agree.
            budget: seconds that one exchange may take, connecting included.

        Raises:
            Misuse: an argument is wrong.
            MissingExtra: redis is not installed.
        """
        require("redis", "redis")
        given: Any = namespace
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            raise Misuse(f"namespace must be 1 to 100 characters without spaces, ':' and braces; got {namespace!r}")
        if interval is not None and seconds(interval, "interval") * 2 > seconds(ttl, "ttl"):
            raise Misuse(f"ttl={ttl:g} s must be at least two intervals of {interval:g} s, or instances seem dead")
        from backstay.redis import target

        from .store import Store  # needs the extra, which breakers alone do not

        servers = target(store)
        place = Store(servers, namespace=namespace, budget=seconds(budget, "budget"), ttl=seconds(ttl, "ttl"))
        return cls(place, interval=interval, share=fraction(share, "share"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SharedBreakers({self._store.target.label!r}, {sorted(self._members)})"

    @property
    def interval(self) -> float:
        """Seconds between two exchanges."""
        return self._interval or 0.0

    def join(self, breaker: CircuitBreaker) -> CircuitBreaker:
        """Let a breaker take part, and return it. Does not wait for the store.

        Raises:
            Misuse: its name does not fit into a key, or another breaker of this name has joined.
        """
        given: Any = breaker
        if not isinstance(given, CircuitBreaker):
            raise Misuse(f"join takes a CircuitBreaker, got {breaker!r}")
        self._check(breaker.name)
        with self._lock:
            known = self._members.get(breaker.name)
            if known is not None and known.circuit is not breaker.circuit:
                raise Misuse(f"another breaker {breaker.name!r} has joined; one breaker a dependency and process")
            if known is None:
                self._members[breaker.name] = Member(breaker.circuit, share=self._share)
        if self._interval is not None:
            exchange_regularly(self)
        return breaker

    def refresh(self) -> bool:
        """Exchange opinions now, and return whether the store answered; the background thread's work."""
        with self._exchanging:
            for name, member in tuple(self._members.items()):
                try:
                    answer = self._store.exchange(name, self.owner, member.question())
                except BackstayError as error:
                    self._lose(error)
                    return False
                if not self._answers:
                    logger.warning("breakers are shared again over %s", self._store.target.label)
                    self._answers = True
                member.hear(answer)
        return True

    def _lose(self, error: BackstayError) -> None:
        if self._answers:
            logger.warning("breakers are local until %s answers: %s", self._store.target.label, error)
            self._answers = False
        for member in tuple(self._members.values()):
            member.lose()

    def override(self, name: str, state: State, *, lasts: float | None = None) -> None:
        """Put all instances of a breaker into a state, whatever they see: at most an interval later they are.

        Args:
            name: of the breaker; it need not have joined here.
            state: `State.FORCED_OPEN`, `State.DISABLED` or `State.METRICS_ONLY`.
            lasts: seconds after which it ends by itself; None for until `release`.

        Raises:
            Misuse: the state is none of these.
            Unavailable, OutcomeUnknown: the store did not answer; saying it again does no harm.
        """
        self._check(name)
        text = override_text(state)
        self._store.put(name, text, None if lasts is None else seconds(lasts, "lasts"))

    def release(self, name: str) -> None:
        """End an override: the instances close, with empty windows, and work automatically again.

        Raises:
            Unavailable, OutcomeUnknown: as for `override`.
        """
        self._check(name)
        self._store.put(name, None, None)

    def view(self, name: str) -> SharedView:
        """Return what the instances hold, without taking part.

        Raises:
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        self._check(name)
        answer = self._store.exchange(name, "", Question(version=-1))
        return SharedView(
            live=answer.live,
            open=answer.open,
            quorum=quorum(answer.live, self._share),
            override=answer.override,
        )

    def close(self) -> None:
        """Leave: the breakers of this process are local from now on, and its opinions are taken back.

        What does not reach the store ends there by itself, after the ttl.
        """
        with self._exchanging:
            with self._lock:
                members, self._members = self._members, {}
            for name, member in members.items():
                last = member.leave()
                try:
                    self._store.exchange(name, self.owner, last)
                except BackstayError as error:
                    logger.warning("%s was not told that %s leaves: %s", self._store.target.label, self.owner, error)
        self._store.close()

    def renew(self) -> None:
        """Be another instance in a forked child, without the parent's permits."""
        self._exchanging, self._lock = threading.Lock(), threading.Lock()
        self._store.renew()
        self.owner = _owner()
        self._members = {
            name: Member(member.circuit, share=self._share) for name, member in self._members.items()
        }  # fmt: skip

    def _check(self, name: object) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Misuse(
                f"a shared breaker's name must be 1 to 100 characters without spaces, ':' and braces; got {name!r}"
            )


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
