"""What pipelines have to know of httpx: which bodies can be sent again, and when an answer's body has ended."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

from backstay.url import require

from ..policy import Settle

require("httpx", "http")

from httpx import AsyncByteStream, ByteStream, Request, Response, SyncByteStream  # noqa: E402  # see httpx.py

__all__ = ["Httpx"]


class Httpx:
    """The client library as a wire of pipelines."""

    def repeatable(self, request: Request) -> bool:
        """Return whether the body is in memory."""
        return isinstance(request.stream, ByteStream)

    def follow(self, response: Response, settle: Settle) -> None:
        """Put a body that tells in the place of the body."""
        stream = response.stream
        followed = _AsyncStream(stream, settle) if isinstance(stream, AsyncByteStream) else _Stream(stream, settle)
        if isinstance(stream, ByteStream):  # it is both; which of the two the client reads is not known here
            followed = _BothStreams(stream, settle)
        response.stream = followed


class _Follower:
    """An answer's body that tells when it ends: well at its end or its close, else by the error that broke it."""

    def __init__(self, stream: Any, settle: Settle) -> None:
        self._stream = stream
        self._settle = settle
        weakref.finalize(self, settle, None).atexit = False  # nobody closed it: the permit comes back all the same

    def _items(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except GeneratorExit:  # left half way: the client closes it next
            raise
        except BaseException as error:
            self._settle(error)
            raise

    async def _items_async(self) -> AsyncIterator[bytes]:
        try:
            async for item in self._stream:
                yield item
        except GeneratorExit:
            raise
        except BaseException as error:
            self._settle(error)
            raise

    def _close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._settle(None)

    async def _close_async(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._settle(None)


class _Stream(_Follower, SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        return self._items()

    def close(self) -> None:
        self._close()


class _AsyncStream(_Follower, AsyncByteStream):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._items_async()

    async def aclose(self) -> None:
        await self._close_async()


class _BothStreams(_Stream, _AsyncStream):
    """A body in memory, which either client may read."""
