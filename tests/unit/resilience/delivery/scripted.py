"""A source whose answers a test sets, and a consumer that keeps what it got.

They stand where a real server cannot serve: answers out of order, of an old store, or spoilt on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backstay.errors import Misuse, Unavailable
from backstay.resilience.delivery.envelope import Cursor, Envelope
from backstay.resilience.delivery.port import Hear, Told


def sealed(version: int, *, epoch: int = 1, scope: str = "shop/production", **switches: Any) -> Envelope:
    return Envelope.seal(
        scope=scope, epoch=epoch, version=version, issued_at="2026-11-24T02:00:00Z",
        items={"switches": switches or {"number": version}},
    )  # fmt: skip


class Listening:
    def __init__(self) -> None:
        self.alive = True
        self.closed = 0

    def close(self) -> None:
        self.alive = False
        self.closed += 1


class Scripted:
    """Answers `present` as a server would, or fails with `failure`."""

    name = "scripted://"
    kind = "scripted"

    def __init__(self, present: Envelope | None = None) -> None:
        self.present = present
        self.failure: BaseException | None = None
        self.asked: list[Cursor | None] = []
        self.before: Callable[[], None] = lambda: None
        self.etag = True

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        self.asked.append(known)
        self.before()
        if self.failure is not None:
            raise self.failure
        if self.etag and self.present is not None and self.present.cursor == known:
            return None
        return self.present

    def close(self) -> None:
        self.failure = Unavailable("closed")


class Pushing(Scripted):
    """Tells of news as well, when the test says so."""

    def __init__(self, present: Envelope | None = None) -> None:
        super().__init__(present)
        self.ear: Hear | None = None
        self.streams: list[Listening] = []
        self.deaf = False

    def subscribe(self, hear: Hear) -> Listening:
        if self.deaf:
            raise Unavailable("nobody tells")
        self.ear = hear
        self.streams.append(Listening())
        return self.streams[-1]

    def tell(self, envelope: Envelope, *, whole: bool = False) -> None:
        assert self.ear is not None
        self.ear(Told(epoch=envelope.epoch, version=envelope.version, envelope=envelope if whole else None))


class Keeping:
    """A consumer: keeps the section, refuses one with a word that it does not want."""

    def __init__(self, section: str = "switches", *, refused: str = "spoilt") -> None:
        self.section = section
        self.now: Mapping[str, Any] = {}
        self.seen: list[Mapping[str, Any]] = []
        self.refused = refused
        self.broken = False

    def prepare(self, section: Mapping[str, Any]) -> Keeping.Change:
        if self.refused in section:
            raise Misuse(f"{self.refused!r} is not understood")
        return Keeping.Change(self, section)

    class Change:
        def __init__(self, keeping: Keeping, section: Mapping[str, Any]) -> None:
            self.keeping, self.section, self.before = keeping, section, keeping.now

        def apply(self) -> None:
            self.keeping.now = dict(self.section)
            if self.keeping.broken:
                raise RuntimeError("a fault of a consumer")
            self.keeping.seen.append(self.keeping.now)

        def undo(self) -> None:
            self.keeping.now = self.before
