"""The recipes that are claims: one text for both faces, which differ only in the classes that they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, Unpack

from backstay.errors import Misuse

from .guard import guarded
from .options import Options, Terms, checked_size, terms
from .recipes.mutex import Reach
from .recipes.reentrant import Holds
from .recipes.semaphore import MOST

if TYPE_CHECKING:
    from .connection import AsyncLocks, Locks

__all__ = ["Faces", "Recipes"]

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")
R = TypeVar("R")
S = TypeVar("S")
G = TypeVar("G")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces(Generic[M, R, S, G, U]):
    """What makes the locks of one colour."""

    mutex: Callable[[Reach, str, Terms], M]
    reentrant: Callable[[Holds, Reach, str, Terms], M]
    read_write: Callable[[Reach, Holds, str, Terms], R]
    semaphore: Callable[[Reach, str, int | None, Terms], S]
    segmented: Callable[[Reach, str, int, Terms], G]
    multi: Callable[[Reach, Sequence[str], Terms], U]


class Recipes(Generic[M, R, S, G, U]):
    """The recipes that are claims on a resource."""

    _faces: Faces[M, R, S, G, U]
    _holds: Holds

    def _reached(self) -> Reach:
        """Return what finds the protocol."""
        raise NotImplementedError

    def _blocking(self) -> Locks:
        """Return locks for plain functions on the same store."""
        raise NotImplementedError

    def _asynchronous(self) -> AsyncLocks:
        """Return locks for `async def` functions on the same store."""
        raise NotImplementedError

    def mutex(self, name: str, *, reentrant: bool = False, **options: Unpack[Options]) -> M:
        """Return the lock of that name, which one holder has at a time; nothing is sent before it is acquired.

        Args:
            name: 1 to 512 characters.
            reentrant: whether a thread (or task) that holds it passes; counted in this process, at no cost.
            options: `ttl`, `wait`, `renew`, `raise_on_loss`, `max_hold`, `cancel_on_loss`: see `Options`.

        Raises:
            Misuse: one of these is out of range.
        """
        agreed = terms(**options)
        if reentrant:
            return self._faces.reentrant(self._holds, self._reached(), name, agreed)
        return self._faces.mutex(self._reached(), name, agreed)

    def read_write(self, name: str, **options: Unpack[Options]) -> R:
        """Return the read-write lock of that name: `.read()` lets many in, `.write()` one alone.

        Args:
            name: 1 to 512 characters.
            options: see `Options`; `.read(...)` and `.write(...)` may change them.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._faces.read_write(self._reached(), self._holds, name, terms(**options))

    def semaphore(self, name: str, *, permits: int | None, **options: Unpack[Options]) -> S:
        """Return the semaphore of that name, which a number of holders have at a time.

        Args:
            name: 1 to 512 characters.
            permits: how many; the first caller's number goes into the store, and who says another is refused. None
                takes the store's, at the cost of one more exchange for each acquisition.
            options: see `Options`.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._faces.semaphore(self._reached(), name, permits, terms(**options))

    def segmented(self, name: str, *, segments: int, **options: Unpack[Options]) -> G:
        """Return the lock in stripes of that name: `.lock(*keys)` takes those of some keys, `.whole()` all.

        Args:
            name: 1 to 512 characters.
            segments: how many stripes, 1 to 1024; the first caller's number goes into the store, and who says another
                is refused.
            options: see `Options`; `.lock(...)` and `.whole(...)` may change them.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._faces.segmented(self._reached(), name, segments, terms(**options))

    def multi(self, *names: str, **options: Unpack[Options]) -> U:
        """Return the locks of these names as one, taken together or not at all.

        Args:
            names: 1 to 256, in any order; a name that comes twice counts once.
            options: see `Options`; the wait is for all of them together.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._faces.multi(self._reached(), names, terms(**options))

    def guard(
        self,
        template: str,
        *,
        reentrant: bool = False,
        side: Literal["read", "write"] | None = None,
        permits: int | None = None,
        **options: Unpack[Options],
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Return a decorator for `def` and `async def`: one call at a time for each key.

        Args:
            template: the lock's name, with fields that name parameters: `"stock:{product_id}"`.
            reentrant: whether a guarded function may call itself, or another with the same key.
            side: run under this side of the read-write lock of that name instead.
            permits: run under the semaphore of that name instead, so many calls at a time.
            options: see `Options`.

        Raises:
            Misuse: an argument is out of range or the template names no parameter; at import, not at the first call.
        """
        if sum((reentrant, side is not None, permits is not None)) > 1:
            raise Misuse("a guard is reentrant, or has a side, or permits: choose one of them")
        if side not in (None, "read", "write"):
            raise Misuse(f"side must be 'read' or 'write', got {side!r}")
        if permits is not None:
            checked_size(permits, "permits", MOST)
        agreed = terms(**options)

        def section(locks: Recipes[Any, Any, Any, Any, Any], name: str) -> Any:
            if side is not None:
                lock = locks.read_write(name, **options)
                return lock.read() if side == "read" else lock.write()
            if permits is not None:
                return locks.semaphore(name, permits=permits, **options)
            return locks.mutex(name, reentrant=reentrant, **options)

        return guarded(
            template,
            lambda name: section(self._blocking(), name),
            lambda name: section(self._asynchronous(), name),
            agreed,
        )
