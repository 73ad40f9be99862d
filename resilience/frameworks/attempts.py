"""Policies fitted to calls whose answer is a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..policy import Admitting, AsyncCall, Call, Policy, Served, Settle, Target
from .answers import settle_once

__all__ = ["Held", "Sometimes"]


class _Fitted:
    """Stands for a policy and is asked in its place; all else is the policy's own."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.kind: str = policy.kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


class Held(_Fitted):
    """A policy that admits, kept until the answer's body has ended; `follow` says when that is."""

    def __init__(self, policy: Admitting, follow: Callable[[Any, Settle], None]) -> None:
        super().__init__(policy)
        self._follow = follow

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` admitted for as long as its answer lasts."""
        admit, follow = self._policy.admit(target), self._follow

        def held(request: Any) -> Any:
            settle = settle_once(admit((request,), {}))
            try:
                response = call(request)
                if response.__class__ is not Served:
                    follow(response, settle)
                    return response
            except BaseException as error:
                settle(error)
                raise
            settle(None)
            return response

        return held

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` admitted for as long as its answer lasts."""
        admit, follow = self._policy.admit_async(target), self._follow

        async def held(request: Any) -> Any:
            settle = settle_once(await admit((request,), {}))
            try:
                response = await call(request)
                if response.__class__ is not Served:
                    follow(response, settle)
                    return response
            except BaseException as error:
                settle(error)
                raise
            settle(None)
            return response

        return held


class Sometimes(_Fitted):
    """A policy for some requests only: retry for those that may be sent a second time (RT-1)."""

    def __init__(self, policy: Policy, wanted: Callable[[Any], bool]) -> None:
        super().__init__(policy)
        self._wanted = wanted

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` inside the policy where that is wanted."""
        inside, wanted = self._policy.wrap(call, target), self._wanted

        def sometimes(request: Any) -> Any:
            return inside(request) if wanted(request) else call(request)

        return sometimes

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` inside the policy where that is wanted."""
        inside, wanted = self._policy.wrap_async(call, target), self._wanted

        async def sometimes(request: Any) -> Any:
            return await (inside(request) if wanted(request) else call(request))

        return sometimes
