"""Policies round generators: admitted at the first item, settled when the stream ends, however it ends (CB-10).

A stream that is never iterated takes nothing. One that is left half way ends by `GeneratorExit`, which a policy
hears of as it hears of a cancellation: neither good nor bad.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from .port import Admit, AdmitAsync, Call

__all__ = ["stream", "stream_async"]


def stream(call: Call, admit: Admit) -> Call:
    """Return the generator function `call` behind `admit`."""

    def streamed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        settle = admit(args, kwargs)
        try:
            inner: Generator[Any, Any, Any] = call(*args, **kwargs)
            result = yield from inner
        except BaseException as error:
            settle(error)
            raise
        settle(None)
        return result

    return streamed


def stream_async(call: Call, admit: AdmitAsync) -> Call:
    """Return the async generator function `call` behind `admit`; values and errors sent in reach it."""

    async def streamed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        settle = await admit(args, kwargs)
        try:
            inner: AsyncGenerator[Any, Any] = call(*args, **kwargs)
            item = await anext(inner)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    item = await inner.athrow(error)
                else:
                    item = await inner.asend(sent)
        except StopAsyncIteration:
            settle(None)
        except BaseException as error:
            settle(error)
            raise

    return streamed
