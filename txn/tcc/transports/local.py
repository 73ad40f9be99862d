"""Branches in this process, in two makes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from backstay.errors import Misuse

from ...judge import done, judge
from ...values import Answer, Reply
from ..action import Action, replied
from ..transport import Request

__all__ = ["AsyncLocal", "Local"]


def _find(actions: Mapping[str, Action], request: Request) -> Action | Reply:
    action = actions.get(request.target.address)
    if action is None:
        known = ", ".join(sorted(actions)) or "none"
        return Reply(
            answer=Answer.UNKNOWN,
            text=f"this process has no action {request.target.address!r} (it has: {known}); "
            "give it to the transaction manager as actions=[...]",
        )
    return action


def _reply(request: Request, value: Any) -> Reply:
    return replied(value) or done(value, what=f"the result of {request.target}")


class Local:
    """Calls actions in the calling thread."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions

    async def send(self, request: Request) -> Reply:
        """Call the action; a plain function cannot be interrupted, so the timeout does not apply."""
        action = _find(self._actions, request)
        if isinstance(action, Reply):
            return action
        try:
            value = action.perform(request.branch)
            if inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()
                raise Misuse(f"action {action.name!r} is async; use it with AsyncTransactionManager")
            return _reply(request, value)
        except Exception as error:
            return judge(request.branch.phase, error)


class AsyncLocal:
    """Awaits async actions in the loop, and calls plain ones in a thread."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions

    async def send(self, request: Request) -> Reply:
        """Call the action within the timeout; a plain function that outlives it goes on, and its answer is lost."""
        action = _find(self._actions, request)
        if isinstance(action, Reply):
            return action
        try:
            async with asyncio.timeout(request.timeout):
                return _reply(request, await _perform(action, request))
        except TimeoutError as error:
            return Reply(answer=Answer.UNKNOWN, text=f"no answer in {request.timeout:.3g} s", error=error)
        except Exception as error:
            return judge(request.branch.phase, error)


async def _perform(action: Action, request: Request) -> Any:
    if action.is_async:
        return await action.perform(request.branch)
    value = await asyncio.to_thread(action.perform, request.branch)
    return await value if inspect.isawaitable(value) else value
