"""Commands as bytes: by hiredis where it is installed, which takes a third of the driver's own way there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["pack", "pack_plainly"]

Parts = tuple[str | int, ...]


def pack_plainly(parts: Parts) -> list[bytes]:
    """Write a command in the server's protocol."""
    texts = [str(part).encode() for part in parts]
    return [b"*%d\r\n%b" % (len(texts), b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts))]


def _fastest() -> Callable[[Parts], list[bytes]]:
    try:
        write: Any = import_module("hiredis").pack_command
    except (ImportError, AttributeError):  # not installed, or from before it could write
        return pack_plainly
    return lambda parts: [write(parts)]


pack: Callable[[Parts], list[bytes]] = _fastest()
