"""Several ordered streams of rows into one: stable, checked, and cut at the limit (M3, M9, M11, M12)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from .errors import MergeOrderError

__all__ = ["SortKey", "guarded", "merge_buffered", "merge_streams"]

#: From a row as it came to its sort key; ascending.
SortKey = Callable[[Any], tuple[Any, ...]]


def guarded(rows: Iterable[Any], key: SortKey, shard: str) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Pairs of (sort key, row), checked to come in order.

    Raises:
        MergeOrderError: at the first row that is before its predecessor: the shard orders in another way than the
        key does.
    """
    last: tuple[Any, ...] | None = None
    for row in rows:
        try:
            here = key(row)
            wrong = last is not None and here < last
        except TypeError as error:
            raise MergeOrderError(f"shard {shard!r}: ORDER BY values of several types cannot be compared") from error
        if wrong:
            raise MergeOrderError(
                f"shard {shard!r} delivered rows in another order than its ORDER BY says for this type;"
                " order by a column with a binary collation"
            )
        last = here
        yield here, row


def merge_buffered(
    streams: Sequence[Iterable[Any]], shards: Sequence[str], key: SortKey | None, *, offset: int, limit: int | None
) -> list[Any]:
    """All rows that are asked for. Ties go by shard, then by arrival: the same data gives the same order."""
    if key is None:
        merged = [row for stream in streams for row in stream]
    else:
        pairs = [pair for stream, shard in zip(streams, shards, strict=True) for pair in guarded(stream, key, shard)]
        # Sorting what is sorted in parts costs less than a heap, and it is stable.
        pairs.sort(key=_first)
        merged = [row for _, row in pairs]
    return merged[offset : None if limit is None else offset + limit] if offset or limit is not None else merged


def merge_streams(
    streams: Sequence[Iterable[Any]], shards: Sequence[str], key: SortKey | None, *, offset: int, limit: int | None
) -> Iterator[Any]:
    """The same, row by row: memory for one row a shard beside what the cursors fetch."""
    rows: Iterator[Any]
    if key is None:
        rows = (row for stream in streams for row in stream)
    else:
        pairs = [guarded(stream, key, shard) for stream, shard in zip(streams, shards, strict=True)]
        rows = (row for _, row in heapq.merge(*pairs, key=_first))
    return islice(rows, offset, None if limit is None else offset + limit)


def _first(pair: tuple[tuple[Any, ...], Any]) -> tuple[Any, ...]:
    return pair[0]
