"""The refusals of what cannot be put together from several shards."""

from __future__ import annotations

from typing import NoReturn

from .errors import NotMergeable
from .occurrences import Group

__all__ = ["apart", "refuse"]


def refuse(clause: str, why: str, cure: str) -> NoReturn:
    """Say which clause cannot be merged."""
    raise NotMergeable(f"{clause} over several shards: {why}", clause=clause, cure=cure)


def apart(groups: tuple[Group, ...]) -> NotMergeable:
    """The refusal of tables that are not proved to sit together."""
    tables = " and ".join(f"({group.names()})" for group in groups)
    return NotMergeable(
        f"{tables} are not known to sit on the same shard",
        clause="JOIN",
        cure="join on the sharding keys or on a foreign key declared by Rule(with_=...), or give both keys a value",
    )
