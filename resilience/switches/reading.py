"""Reading switches: what services call at every request, so without locks and without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .evaluation import Cause, Key
from .model import Kind
from .snapshot import Snapshot

__all__ = ["Details", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """A value and how it came about.

    Attributes:
        name: of the switch.
        value: for the key; objects are read-only.
        kind: its type: `boolean`, `number`, `text` or `object`.
        variant: its name; `on` or `off` for a boolean switch without variants.
        cause: `default` where no document speaks of the switch, or no key was given to a split; `static`; `split`
            by the key's bucket; `disabled`; `stale` where the source did not confirm it lately.
        reason: what an operator said, or an empty text.
        version: of what was in force.
        until: RFC 3339, when it stops to hold, or None.
    """

    name: str
    value: Any
    kind: Kind
    variant: str
    cause: Cause
    reason: str
    version: int
    until: str | None


class Reading:
    """The public ways to read switches; `Switches` adds where they come from.

    Guarantees: a read takes no lock, does no I/O and sees one document; a key has the same answer in every process
    that has the same document. Not guaranteed: that two reads see the same document; take a `snapshot` for that.
    """

    current: Snapshot
    _on: dict[str, bool | None]

    def enabled(self, name: str, key: Key | None = None) -> bool:
        """Return whether the function behind the switch runs.

        Args:
            name: of the switch.
            key: whose share of a percentage counts, such as a customer's id. Without it a percentage below 100 is
                off, and a split has its default variant.

        Raises:
            Misuse: there is no such switch; the text names those that there are.
        """
        try:
            on = self._on[name]
        except KeyError:
            return self.current.enabled(name, key)
        if on is not None:
            return on
        return self.current.on_for(name, key)

    def variant(self, name: str, key: Key | None = None) -> str:
        """Return the name of the variant for `key`; `on` or `off` for a switch without variants.

        Raises:
            Misuse: there is no such switch.
        """
        return self.current.choose(name, key).variant

    def number(self, name: str, key: Key | None = None) -> float:
        """Return the number for `key`, whole if the document's is.

        Raises:
            Misuse: there is no such switch, or it is no number.
        """
        found: float = self.current.typed(name, key, "number")
        return found

    def text(self, name: str, key: Key | None = None) -> str:
        """Return the text for `key`.

        Raises:
            Misuse: there is no such switch, or it is no text.
        """
        found: str = self.current.typed(name, key, "text")
        return found

    def table(self, name: str, key: Key | None = None) -> Mapping[str, Any]:
        """Return the object for `key`, read-only.

        Raises:
            Misuse: there is no such switch, or it is no object.
        """
        found: Mapping[str, Any] = self.current.typed(name, key, "object")
        return found

    def details(self, name: str, key: Key | None = None) -> Details:
        """Return the value for `key` with how it came about (SW-5).

        Raises:
            Misuse: there is no such switch.
        """
        current = self.current
        chosen, switch = current.choose(name, key), current.state(name)
        return Details(
            name=name,
            value=chosen.value,
            kind=switch.kind,
            variant=chosen.variant,
            cause=chosen.cause if self.confirmed else "stale",
            reason=switch.reason,
            version=current.version,
            until=switch.until,
        )

    @property
    def confirmed(self) -> bool:
        """Whether the source has confirmed lately what is in force."""
        return True

    def snapshot(self) -> Snapshot:
        """Return the states of all switches now, for a request that wants one view from start to end."""
        return self.current
