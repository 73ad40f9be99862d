"""What goes over a connection, without the connection: commands, the greeting, the script."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

from backstay.redis import Settings
from backstay.url import mask

from ...backend import StoreFailed

__all__ = ["ASKING", "SCRIPT", "SHA", "bulk", "command", "credentials", "greeting", "key_of", "learn", "pack", "raised"]

SCRIPT = resources.files(__name__.rpartition(".")[0]).joinpath("token_bucket.lua").read_bytes()
SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()  # the name that Redis gives it


def bulk(text: bytes) -> bytes:
    """Return one argument in the Redis protocol."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def pack(*arguments: bytes) -> bytes:
    """Return one command in the Redis protocol."""
    return b"*%d\r\n" % len(arguments) + b"".join(map(bulk, arguments))


ASKING = pack(b"ASKING")


def key_of(body: bytes) -> str:
    """Return the key that the body of a call begins with."""
    length, _, rest = body[1:].partition(b"\r\n")
    return rest[: int(length)].decode()


def credentials(settings: Settings) -> tuple[str, ...]:
    """Return what AUTH takes, or nothing.

    Raises:
        StoreFailed: the credential provider raised.
    """
    try:
        return settings.credentials()
    except Exception as error:
        raise StoreFailed("refused", f"the credential provider raised {type(error).__name__}") from error


def greeting(settings: Settings, credentials: tuple[str, ...]) -> tuple[bytes, int]:
    """Return the commands that open a connection, sent in one write, and how many replies they have.

    The last two load the script and ask for the time, so that a new connection, after a failover for
    example, knows both without another round trip.
    """
    commands: list[bytes] = []
    if credentials:
        commands.append(pack(b"AUTH", *(part.encode() for part in credentials)))
    if settings.db:
        commands.append(pack(b"SELECT", b"%d" % settings.db))
    commands += [pack(b"SCRIPT", b"LOAD", SCRIPT), pack(b"TIME")]
    return b"".join(commands), len(commands)


def learn(replies: list[Any]) -> int:
    """Return the server's microseconds from the replies to the greeting, 0 where it does not tell them.

    Raises:
        StoreFailed: it refused the credentials or the database.
    """
    *refusable, _loaded, time = replies
    for reply in refusable:
        if isinstance(reply, Exception):
            raise StoreFailed("refused", mask(str(reply)))
    if isinstance(time, Exception):
        return 0
    seconds, microseconds = time
    return int(seconds) * 1_000_000 + int(microseconds)


def raised(reply: Exception) -> StoreFailed:
    """Return the failure that an error reply of the server stands for."""
    return StoreFailed("reply", mask(str(reply)))


_ARGUMENTS = 11  # command, script, number of keys, key, seven of ours
_HEADS = {
    False: b"*%d\r\n" % _ARGUMENTS + bulk(b"EVALSHA") + bulk(SHA) + bulk(b"1"),
    True: b"*%d\r\n" % _ARGUMENTS + bulk(b"EVAL") + bulk(SCRIPT) + bulk(b"1"),
}


def command(body: bytes, not_after: int, borrowed: bytes, *, whole: bool = False) -> bytes:
    """Return the call of the script.

    Args:
        body: key and the first five arguments, in the protocol.
        not_after: server microseconds after which nothing may be charged, 0 for never.
        borrowed: the seventh argument in the protocol: the caller's clock, or 0.
        whole: send the script itself, because the server has forgotten it.
    """
    stamp = b"%d" % not_after
    return b"%b%b$%d\r\n%b\r\n%b" % (_HEADS[whole], body, len(stamp), stamp, borrowed)
