"""One SELECT on several shards: the statement each of them gets, and the one result made of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Result, Select
from sqlalchemy.engine.result import SimpleResultMetaData, tuplegetter

from .aggregates import combine, partials
from .errors import NotMergeable
from .internals import IteratorResult, entities_of, is_orm
from .merge import merge_buffered, merge_streams
from .mergeable import Merging, order_keys
from .plans import Values

_RESULT: Any = IteratorResult

__all__ = ["Window", "empty_result", "gathered", "per_shard", "window"]

Window = tuple[int, int | None]


def window(merging: Merging, values: Values) -> Window:
    """Offset and limit of this execution.

    Raises:
        NotMergeable: one of them is no whole number from 0.
    """
    offset = values(merging.offset) if merging.offset is not None else 0
    limit = values(merging.limit) if merging.limit is not None else None
    for value in (offset, limit):
        if value is not None and (not isinstance(value, int) or value < 0):
            raise NotMergeable(
                f"LIMIT and OFFSET over several shards must be whole numbers from 0, got {value!r}",
                clause="LIMIT",
                cure="pass a number from 0",
            )
    return offset or 0, limit


def per_shard(statement: Any, merging: Merging, cut: Window) -> tuple[Any, int]:
    """The statement for each shard, and how many hidden columns it has at its end.

    Each shard is asked for LIMIT l + o OFFSET 0: in the worst case one shard has them all.
    """
    hidden = (
        partials(merging.aggregates)
        if merging.aggregates
        else [key.expression.label(f"_bs_k{at}") for at, key in enumerate(_keys(statement, merging))]
    )
    if hidden:
        statement = statement.add_columns(*hidden)
    if merging.cuts:
        offset, limit = cut
        if limit is not None:
            statement = statement.fetch(offset + limit) if merging.fetch else statement.limit(offset + limit)
        statement = statement.offset(None)
    return statement, len(hidden)


def _keys(statement: Any, merging: Merging) -> Sequence[Any]:
    # The plan's expressions hold the parameters of the statement it was made from; this one has its own.
    return order_keys(statement, merging.dialect) if merging.bound_order else merging.order


def gathered(
    results: Sequence[Result[Any]],
    shards: Sequence[str],
    merging: Merging,
    hidden: int,
    cut: Window,
    *,
    streaming: bool,
    divide: Callable[[Any, int], Any],
) -> Result[Any]:
    """One result of several, with the labels, types and identities that one database would give."""
    first: Any = results[0]
    metadata: Any = first._metadata
    visible = len(metadata._keys) - hidden
    processors = getattr(metadata, "_processors", None)
    streams: list[Any] = [result._raw_row_iterator() for result in results]
    cursors = Cursors(results)
    simple = isinstance(metadata, SimpleResultMetaData)
    if hidden and not simple and len(set(metadata._keys[:visible])) != visible:
        cursors.close()
        raise NotMergeable(
            "two selected columns have the same label", clause="SELECT", cure="give them different labels"
        )
    if merging.aggregates:
        rows: list[Any] = [row for stream in streams for row in stream]
        processed = [_processed(row, processors) for row in rows]
        cursors.close()
        whole = iter([tuple(combine(merging.aggregates, rows, processed, divide)) + (None,) * hidden])
        return IteratorResult(_visible(metadata, visible, hidden), whole)
    key = _sort_key(merging, visible, processors) if merging.order else None
    offset, limit = cut
    rows_: Iterable[Any]
    if streaming:
        rows_ = _closing(merge_streams(streams, shards, key, offset=offset, limit=limit), cursors)
    else:
        try:
            rows_ = merge_buffered(streams, shards, key, offset=offset, limit=limit)
        finally:
            cursors.close()
    merged = _RESULT(
        _visible(metadata, visible, hidden),
        iter(rows_),
        raw=cursors if streaming else None,
        _source_supports_scalars=bool(getattr(first, "_source_supports_scalars", False)) and not hidden,
        context=getattr(first, "context", None),
    )
    merged._unique_filter_state = first._unique_filter_state
    merged._attributes = first._attributes
    if hidden and getattr(first, "_source_supports_scalars", False):
        merged._attributes = first._attributes.union({"is_single_entity": False})
    return merged  # type: ignore[no-any-return]  # typed loosely for the private names above


def empty_result(statement: Select[Any]) -> Result[Any] | None:
    """No rows, with the statement's labels, without a database; None for a Core select, whose labels need one."""
    if not is_orm(statement):
        return None
    labels, extra, single = entities_of(statement)
    result = _RESULT(SimpleResultMetaData(labels, extra), iter(()), _source_supports_scalars=single)
    result._attributes = result._attributes.union({"filtered": True, "is_single_entity": single})
    return result  # type: ignore[no-any-return]  # as above


class Cursors:
    """The shards' results as the one `raw` of a merged result: closing it closes all."""

    def __init__(self, results: Sequence[Any]) -> None:
        self._results = results
        raw = getattr(results[0], "raw", None) or results[0]
        self.context = getattr(raw, "context", None)

    def _soft_close(self, hard: bool = False, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close every shard's cursor."""
        for result in self._results:
            result.close()


def _closing(rows: Iterator[Any], cursors: Cursors) -> Iterator[Any]:
    try:
        yield from rows
    finally:
        cursors.close()


def _visible(metadata: Any, visible: int, hidden: int) -> Any:
    """The metadata without the hidden columns, over rows that still have them."""
    if not hidden:
        return metadata
    indexes = range(visible)
    if not isinstance(metadata, SimpleResultMetaData):
        return metadata._reduce(indexes)
    # Its own _reduce goes by name, and entities of aliased classes have none.
    extra = {record[0]: record[2] for record in metadata._keymap.values()}
    return SimpleResultMetaData(
        metadata._keys[:visible],
        extra=[extra.get(at, ()) for at in indexes],
        _tuplefilter=tuplegetter(*indexes),
        _translated_indexes=indexes,
        _processors=metadata._processors,
        _create_unique_filters=metadata._create_unique_filters,
    )


def _processed(row: Sequence[Any], processors: Any) -> Sequence[Any]:
    if not processors:
        return row
    return [value if make is None else make(value) for value, make in zip(row, processors, strict=True)]


def _sort_key(merging: Merging, visible: int, processors: Any) -> Callable[[Any], tuple[Any, ...]]:
    parts = [
        (visible + at, key.of, processors[visible + at] if processors else None) for at, key in enumerate(merging.order)
    ]

    def sort_key(row: Any) -> tuple[Any, ...]:
        return tuple(of(row[at] if process is None else process(row[at])) for at, of, process in parts)

    return sort_key
