"""In-process branches: an action has a name and three functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from backstay.errors import Misuse

from ..values import Branch, Phase, Reply

__all__ = ["Action", "Tcc", "fits", "registry", "replied"]


@runtime_checkable
class Action(Protocol):
    """What a coordinator can call in its own process: `Tcc`, `Participant`, `AsyncParticipant`."""

    @property
    def is_async(self) -> bool:
        """Whether `perform` returns an awaitable without blocking before."""
        ...

    @property
    def name(self) -> str:
        """The name under which the journal keeps it; a restarted process must give the same one."""
        ...

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raise Misuse if the functions cannot take this payload."""
        ...

    def perform(self, branch: Branch) -> Any:
        """Return a `Reply`, or an awaitable of one."""
        ...


class Tcc:
    """An action of plain functions; each gets the `Branch` first and the payload as keyword arguments.

        reserve_stock = Tcc("reserve_stock", try_=reserve, confirm=take, cancel=give_back)

    The functions are called at least once each and must cope with that: repeated calls, a cancel without a
    try, a cancel that overtakes its try. For work in a SQL database take `Participant` instead, whose barrier
    does all of it. For other work use `(branch.gtrid, branch.id)` as the idempotency key.

    Args:
        name: unique in the process and stable over releases.
        try_: reserves; raises `TryRefused` to say no. What it returns (JSON) is what `tx.call` returns.
        confirm: makes the reservation final; must not refuse.
        cancel: undoes the reservation, or nothing if there is none; must not refuse.

    All three may be `async def` when used with `AsyncTransactionManager`.
    """

    def __init__(
        self,
        name: str,
        *,
        try_: Callable[..., Any],
        confirm: Callable[..., Any],
        cancel: Callable[..., Any],
    ) -> None:
        if not name or len(name) > 200:
            raise Misuse(f"an action's name must have 1 to 200 characters, got {len(name)}")
        self.name = name
        self._functions = {Phase.TRY: try_, Phase.CONFIRM: confirm, Phase.CANCEL: cancel}
        for phase, function in self._functions.items():
            given: Any = function  # callers may be untyped
            if not callable(given):
                raise Misuse(f"{phase.value} of action {name!r} is no function, but {given!r}")
        self.is_async = all(_awaitable(function) for function in self._functions.values())

    def __repr__(self) -> str:
        return f"Tcc({self.name!r})"

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raise Misuse if one of the functions cannot take this payload."""
        for phase, function in self._functions.items():
            fits(function, 1, payload, f"{phase.value} of action {self.name!r}")

    def perform(self, branch: Branch) -> Any:
        """Call the function of the branch's phase; what it raises is the transport's to judge."""
        return self._functions[branch.phase](branch, **branch.payload)


def _awaitable(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # an object with `async def __call__`


def fits(function: Callable[..., Any], positional: int, payload: Mapping[str, Any], what: str) -> None:
    """Raise Misuse unless `function` takes `positional` arguments and the payload's keywords."""
    signature = _signature(function)
    if signature is None:  # a builtin without a signature: the call itself will tell
        return
    try:
        signature.bind(*(None for _ in range(positional)), **payload)
    except TypeError as error:
        raise Misuse(f"{what} does not take this payload ({', '.join(payload) or 'empty'}): {error}") from None


@lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:
        return None


def registry(actions: Iterable[Action]) -> dict[str, Action]:
    """Return actions by name.

    Raises:
        Misuse: two have the same name, or one is no action.
    """
    found: dict[str, Action] = {}
    for action in actions:
        given: Any = action
        if not isinstance(given, Action):
            raise Misuse(f"{given!r} is no action; expected Tcc, Participant or AsyncParticipant")
        if found.setdefault(action.name, action) is not action:
            raise Misuse(f"two actions are named {action.name!r}; recovery could not tell them apart")
    return found


def replied(value: Any) -> Reply | None:
    """Return `value` if it is a reply already (participants answer for themselves)."""
    return value if isinstance(value, Reply) else None
