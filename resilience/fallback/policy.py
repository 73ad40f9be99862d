"""Something to say instead of an error: a value, or a function of the same arguments (CO-3)."""

from __future__ import annotations

import inspect
from typing import Any

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Rejected, Unavailable

from ..policy import AsyncCall, Call, Served, Target

__all__ = ["Fallback"]

_REFUSAL = "refusal"


class Fallback:
    """Answers in place of a call that was refused or that found a dependency unavailable.

    Both mean that nothing was done, so answering otherwise hides nothing. An unknown outcome is never
    answered by a fallback, nor is any other error unless it is named.

    Args:
        answer: a value; or a function that takes the arguments of the call, and `refusal=` if it has such a
            parameter. An `async def` only for an `async def`.
        on: the errors that it answers.

    Raises:
        Misuse: `on` names something that must not be hidden.
    """

    kind = "fallback"

    def __init__(self, answer: Any, on: tuple[type[Exception], ...] = (Rejected, Unavailable)) -> None:
        for error in on:
            given: Any = error
            if not (isinstance(given, type) and issubclass(given, Exception)):
                raise Misuse(f"fallback_on takes exception classes; cancellation and exit pass, got {error!r}")
            if issubclass(OutcomeUnknown, error) and error is not Exception and error is not BackstayError:
                raise Misuse("fallback_on must not name OutcomeUnknown: the call may have taken effect")
        self._answer = answer
        self._on = on

    def prepare(self, target: Target) -> tuple[Call, bool]:
        """Return a function of (refusal, args, kwargs) that gives the answer, and whether to await it.

        Raises:
            Misuse: the function does not take the target's arguments, or is `async def` for a plain function.
        """
        answer: Any = self._answer
        if not callable(answer):

            def value(refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                return answer

            return value, False
        call: Call = answer
        is_async = any(inspect.iscoroutinefunction(each) for each in (call, type(call).__call__))
        label: str = getattr(call, "__qualname__", type(call).__qualname__)
        if is_async and not target.is_async:
            raise Misuse(f"fallback {label}() is async def, but {target.label}() is not: nobody would await it")
        wants_refusal = _check(call, label, target)

        def answered(refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return call(*args, **kwargs, refusal=refusal) if wants_refusal else call(*args, **kwargs)

        return answered, is_async

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` with the fallback behind it."""
        serve, _ = self.prepare(target)
        expected = self._on

        def covered(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except expected as refusal:
                if isinstance(refusal, OutcomeUnknown):
                    raise
                return Served(_from(serve, refusal, args, kwargs))

        return covered

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` with the fallback behind it."""
        serve, awaited = self.prepare(target)
        expected = self._on

        async def covered(*args: Any, **kwargs: Any) -> Any:
            try:
                return await call(*args, **kwargs)
            except expected as refusal:
                if isinstance(refusal, OutcomeUnknown):
                    raise
                return Served(await _from_async(serve, awaited, refusal, args, kwargs))

        return covered


def _from(serve: Call, refusal: Exception, args: Any, kwargs: Any) -> Any:
    """Return the answer; an error in making it carries the refusal as its cause."""
    try:
        return serve(refusal, args, kwargs)
    except Exception as error:
        if error.__cause__ is None and error is not refusal:
            raise error from refusal
        raise


async def _from_async(serve: Call, awaited: bool, refusal: Exception, args: Any, kwargs: Any) -> Any:
    try:
        answer = serve(refusal, args, kwargs)
        return await answer if awaited else answer
    except Exception as error:
        if error.__cause__ is None and error is not refusal:
            raise error from refusal
        raise


def _check(answer: Call, label: str, target: Target) -> bool:
    """Check that every call of the target is one of the fallback; return whether it wants the refusal."""
    try:
        theirs = inspect.signature(answer).parameters
        ours = inspect.signature(target.function).parameters
    except ValueError:  # a builtin without a signature: its own TypeError will say what is wrong
        return False
    takes_any_name = any(p.kind is p.VAR_KEYWORD for p in theirs.values())
    takes_any_place = any(p.kind is p.VAR_POSITIONAL for p in theirs.values())
    places = [p for p in theirs.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for index, parameter in enumerate(ours.values()):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        name = parameter.name
        same_place = index < len(places) and places[index].name == name
        by_place = parameter.kind is parameter.KEYWORD_ONLY or takes_any_place or same_place
        by_name = parameter.kind is parameter.POSITIONAL_ONLY or takes_any_name or name in theirs
        if not (by_place and by_name):
            raise Misuse(
                f"fallback {label}() does not take {name!r} as {target.label}() does; "
                "give it the same parameters (and, if you like, `refusal`), or (*args, **kwargs)"
            )
    wanted = [
        p.name for p in theirs.values()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and p.name not in ours and p.name != _REFUSAL
    ]  # fmt: skip
    if wanted and not any(p.kind is p.VAR_POSITIONAL for p in ours.values()):
        raise Misuse(f"fallback {label}() needs {wanted[0]!r}, which {target.label}() does not have")
    return _REFUSAL in theirs and _REFUSAL not in ours
