"""A function as a chain reads it, and one read of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..policy import Call
from .answer import Answer, Found, Source
from .make import Make

__all__ = ["Asked", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A function as the chain reads it.

    Attributes:
        function: the origin.
        static: gives the static answer from (refusal, args, kwargs); None without one.
        awaited: whether that is awaited.
        source: what the static answer is called.
    """

    function: Call
    static: Call | None
    awaited: bool
    source: Source

    async def say(self, refusal: Exception, args: Any, kwargs: Any) -> Answer[Any]:
        """Return the static answer.

        Raises:
            the refusal: there is none. What making the answer raises carries it as its cause.
        """
        if self.static is None:
            raise refusal
        try:
            value = self.static(refusal, args, kwargs)
            if self.awaited:
                value = await value
        except Exception as error:
            if error is not refusal and error.__cause__ is None:
                error.__cause__ = refusal
            raise
        return Answer(value=value, source=self.source, age=None)


@dataclass(slots=True)
class Asked:
    """One read that goes beyond the process.

    Attributes:
        reading: of what.
        make: the caller's colour.
        word: how far it may go.
        key: of the answer.
        args, kwargs: of the call.
        due: when it must have ended, on the monotonic clock; None for no deadline.
        hurried: the caller says so, not the chain's budget.
        best: the best answer so far.
        origin_due: when the origin must have answered; None for no deadline, or while it has not been asked.
    """

    reading: Reading
    make: Make
    word: str
    key: str
    args: Any
    kwargs: Any
    due: float | None
    hurried: bool
    best: Found | None
    origin_due: float | None = None
