"""Just enough HTTP/1.1 to pass messages on: a head and a body of stated length."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

__all__ = ["Message", "read_message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or a response, as bytes; `headers` are lower-cased names."""

    head: bytes
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def raw(self) -> bytes:
        """What goes over the wire."""
        return self.head + self.body


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message of a connection, or None where the other side closed it between messages.

    Raises ConnectionError where the connection ends inside a message.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError("the connection ended inside a head") from error
        return None
    pairs = (line.split(b":", 1) for line in head.split(b"\r\n")[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if b"transfer-encoding" in headers:
        raise ConnectionAbortedError("chunked messages are not spoken here")
    try:
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended inside a body") from error
    return Message(head=head, headers=headers, body=body)
