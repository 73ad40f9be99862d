"""What goes over a connection, without the connection: commands, the greeting, the script."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Any

from backstay.redis import Settings
from backstay.url import mask

from ...backend import StoreFailed

__all__ = [
    "ASKING",
    "CARRY",
    "ONE",
    "REFUND",
    "SCRIPT",
    "SHA",
    "Script",
    "bulk",
    "command",
    "credentials",
    "greeting",
    "key_of",
    "learn",
    "many",
    "pack",
    "raised",
    "text_of",
]


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


def text_of(*names: str) -> bytes:
    """Return a script that is kept in files of this folder, one after the other."""
    folder = resources.files(__name__.rpartition(".")[0])
    return b"\n".join(folder.joinpath(name).read_bytes() for name in names)


class Script:
    """A script with a fixed number of keys and arguments: what its calls begin with.

    Every script takes the moment after which nothing may be charged, and the caller's clock, one after the other;
    every reply has the server's moment in fourth place, and -1 in the first where the call came too late.

    Args:
        text: its source.
        keys: how many keys it takes.
        arguments: how many arguments, with the two above.
    """

    __slots__ = ("by_name", "sha", "text", "whole")

    def __init__(self, text: bytes, *, keys: int, arguments: int) -> None:
        self.text = text
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()  # the name that Redis gives it
        count, number = b"*%d\r\n" % (3 + keys + arguments), bulk(b"%d" % keys)
        self.by_name = count + bulk(b"EVALSHA") + bulk(self.sha) + number
        self.whole = count + bulk(b"EVAL") + bulk(text) + number


SCRIPT = text_of("token_bucket.lua")
ONE = Script(SCRIPT, keys=1, arguments=8)
SHA = ONE.sha
REFUND = Script(text_of("stored.lua", "token_refund.lua"), keys=1, arguments=7)
CARRY = Script(text_of("token_carry.lua"), keys=1, arguments=5)
_MANY = text_of("stored.lua", "token_buckets.lua")


@lru_cache(maxsize=64)
def many(keys: int) -> Script:
    """Return the script that charges so many buckets, all or none."""
    return Script(_MANY, keys=keys, arguments=6 * keys + 3)


def command(body: bytes, not_after: int, borrowed: bytes, *, whole: bool = False, script: Script = ONE) -> bytes:
    """Return the call of a script.

    Args:
        body: keys and the first arguments, in the protocol.
        not_after: server microseconds after which nothing may be charged, 0 for never.
        borrowed: the rest in the protocol: the caller's clock, or 0, and what comes after it.
        whole: send the script itself, because the server has forgotten it.
        script: which.
    """
    stamp = b"%d" % not_after
    return b"%b%b$%d\r\n%b\r\n%b" % (script.whole if whole else script.by_name, body, len(stamp), stamp, borrowed)
