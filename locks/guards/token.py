"""The fencing token: what travels from a lock's holder to the resource."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from backstay.errors import Misuse
from backstay.locks.options import checked_name

__all__ = ["HIGHEST", "Fenced", "FencingToken", "carried", "current_token", "token_of"]

HIGHEST = 2**63 - 1
"""The highest fence: what a BIGINT holds."""


class Fenced(Protocol):
    """What a guard needs of a holder: a `Lease`, an `AsyncLease` and a `FencingToken` all have it."""

    @property
    def name(self) -> str:
        """The name of the lock."""
        ...

    @property
    def fence(self) -> int:
        """The number of this holder, above that of every earlier one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FencingToken:
    """A lock's name and the fence of one holder, apart from its lease: it can be sent and stored.

    Args:
        name: the lock, 1 to 512 characters.
        fence: from 1 to 2**63 - 1.

    Raises:
        Misuse: one of the two is out of range.
    """

    name: str
    fence: int

    def __post_init__(self) -> None:
        checked_name(self.name)
        given: Any = self.fence
        if type(given) is not int or not 0 < given <= HIGHEST:
            raise Misuse(f"the fence of lock {self.name!r} must be a number from 1 to 2**63 - 1, got {given!r}")


def token_of(lease: Fenced) -> FencingToken:
    """Return the fencing token of a lease.

    Whether the lease is valid is not asked: only the resource can tell whether a later holder was there.

    Raises:
        Misuse: it has no name and fence, or they are out of range.
    """
    if isinstance(lease, FencingToken):
        return lease
    given: Any = lease
    name, fence = getattr(given, "name", None), getattr(given, "fence", None)
    if name is None or fence is None:
        raise Misuse(f"a guard takes a lease or a FencingToken, got {type(given).__name__}")
    return FencingToken(name=name, fence=fence)


_current: ContextVar[FencingToken | None] = ContextVar("backstay_fencing_token", default=None)


def current_token() -> FencingToken:
    """Return the token that came with the request or task that runs here, once its guard has let it pass.

    Raises:
        Misuse: no guarded request or task is running here.
    """
    token = _current.get()
    if token is None:
        raise Misuse("no request or task with a checked fence is running here; decorate it with require_fence(...)")
    return token


@contextmanager
def carried(token: FencingToken) -> Generator[None]:
    """Let `current_token()` return `token` inside the block."""
    before = _current.set(token)
    try:
        yield
    finally:
        _current.reset(before)
