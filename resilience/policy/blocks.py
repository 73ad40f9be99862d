"""Policies round a block of code: `with bulkhead.admission():`, and `async with` likewise."""

from __future__ import annotations

from types import TracebackType

from .port import Admitting, Settle
from .target import block_of

__all__ = ["Admission"]


class Admission:
    """Admits on entry and settles on exit, with the exception that left the block, if any. For one use at a time."""

    def __init__(self, policy: Admitting, name: str) -> None:
        self._policy = policy
        self._name = name
        self._settle: Settle | None = None

    def __enter__(self) -> None:
        self._settle = self._policy.admit(block_of(self._name, is_async=False))((), {})

    async def __aenter__(self) -> None:
        self._settle = await self._policy.admit_async(block_of(self._name, is_async=True))((), {})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
