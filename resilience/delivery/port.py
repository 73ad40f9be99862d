"""Ports of the config plane: where documents come from, and who applies a section of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .envelope import Cursor, Envelope

__all__ = ["Change", "Consumer", "Hear", "Lapsing", "PushSource", "Source", "Subscription", "Telling", "Told"]


class Change(Protocol):
    """What applying a section would change: checked already, done when it is applied."""

    def apply(self) -> None:
        """Let it count. Quick, without I/O; raises only on account of a fault in the program."""
        ...

    def undo(self) -> None:
        """Go back to what was before `prepare`; also after `apply` raised half-way."""
        ...


class Consumer(Protocol):
    """Somebody whom one section of the document configures."""

    @property
    def section(self) -> str:
        """The name of the section, such as `switches`."""
        ...

    def prepare(self, section: Mapping[str, Any]) -> Change:
        """Check the whole section, which may be empty, and change nothing.

        Raises:
            Misuse: anything in it is not understood; the text names the cure.
        """
        ...


@runtime_checkable
class Lapsing(Consumer, Protocol):
    """A consumer in whose section something ends by itself, such as a switch at its `until`."""

    def lapse(self) -> float | None:
        """Let go of what has ended; return in how many seconds something else will have, or None. Never raises."""
        ...


@runtime_checkable
class Telling(Consumer, Protocol):
    """A consumer that has levels to show to an operator beside the version that runs."""

    def tell(self) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """Return the level of each resource, and what each was judged by, as JSON can hold it. Never raises."""
        ...


@runtime_checkable
class Source(Protocol):
    """Delivers a scope's document when it is asked.

    One thread at a time asks, and never one that reads a value. Nothing is remembered on behalf of the asker but
    what makes asking cheap: who asks says what it has applied (SW-3).
    """

    @property
    def name(self) -> str:
        """What operators see, without secrets."""
        ...

    @property
    def kind(self) -> str:
        """One word for telemetry: `file`, `memory`, `http`, ..."""
        ...

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the present document, or None where it is confirmed that there is nothing but `known`.

        Args:
            known: where the document stands that the asker has applied; None if it has none.
            wait: seconds for which it may wait for news (a long poll); 0 answers at once.

        Returns:
            The document, which may be older than `known` where a replica behind answered; or None.

        Raises:
            Unavailable: it cannot be read now.
            Misuse: what was read is no document.
        """
        ...

    def close(self) -> None:
        """Give up what it holds open; a fetch that waits elsewhere ends soon with Unavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """News by push: that there is a version, perhaps with the document itself.

    A push is a hint: it may be lost, doubled, late or out of order, and nothing depends on it but speed (SW-4).
    """

    epoch: int
    version: int
    envelope: Envelope | None = None

    @property
    def cursor(self) -> Cursor:
        """Where in the scope's history the news stands."""
        return Cursor(self.epoch, self.version)


Hear: TypeAlias = Callable[[Told], None]
"""Takes news; quick, never raises, may be called from any thread."""


class Subscription(Protocol):
    """A push under way."""

    @property
    def alive(self) -> bool:
        """Whether it was heard from lately: a heartbeat may be missed once, not twice."""
        ...

    def close(self) -> None:
        """End it; nothing is heard afterwards except what is being told at this moment."""
        ...


@runtime_checkable
class PushSource(Source, Protocol):
    """A source that can also tell of news by itself."""

    def subscribe(self, hear: Hear) -> Subscription:
        """Begin to tell `hear` of news, from a thread of its own. Returns once what is published from now on is heard.

        Raises:
            Unavailable: it cannot be reached now; the plane tries again.
        """
        ...
