"""Every private name of SQLAlchemy that this package depends on, in one place.

Each is pinned by a contract test, so a release that renames one fails there and not in a service. Typed loosely on
purpose: these names have no public types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy.engine.result import IteratorResult
from sqlalchemy.orm.base import PASSIVE_OFF
from sqlalchemy.orm.context import QueryContext, _ORMSelectCompileState
from sqlalchemy.orm.session import SessionTransaction, SessionTransactionOrigin, SessionTransactionState
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql.annotation import Annotated
from sqlalchemy.util import immutabledict

__all__ = [
    "PASSIVE_OFF",
    "PREPARED",
    "IteratorResult",
    "Phases",
    "SessionTransaction",
    "SessionTransactionOrigin",
    "added_criteria",
    "cache_key",
    "cloned_from",
    "collection_of",
    "entities_of",
    "expand",
    "is_kind",
    "is_orm",
    "load_options_with",
    "plain",
    "top_level_token",
]

PREPARED: Final = SessionTransactionState.PREPARED

_STATE: Final[Any] = _ORMSelectCompileState
_DEFAULT_LOAD: Final[Any] = QueryContext.default_load_options


def cloned_from(bind: Any) -> set[Any]:
    """The parameters that this one is a copy of, itself included."""
    return bind._cloned_set  # type: ignore[no-any-return]  # private


def is_orm(statement: Any) -> bool:
    """Whether the ORM compiles this statement."""
    return statement._propagate_attrs.get("compile_state_plugin") == "orm"  # type: ignore[no-any-return]  # private


def cache_key(statement: Any) -> Any:
    """The statement's cache key (key, bindparams, params), memoised on the statement, or None."""
    return statement._generate_cache_key()


def is_kind(element: Any, *kinds: type[Any]) -> bool:
    """`isinstance` that leaves the element as loosely typed as it was: SQLAlchemy's elements have type parameters."""
    return isinstance(element, kinds)


def plain(element: Any) -> Any:
    """The element without ORM annotations, so that identity can be compared."""
    while isinstance(element, Annotated):
        element = element._deannotate()
    return element


def expand(statement: Any, *, eager: bool) -> tuple[Any, bool]:
    """The Core select that the ORM would compile, and whether joined loading of a collection is part of it.

    LIMIT, OFFSET and DISTINCT are taken off first: with them the ORM wraps the joins into a subquery.
    """
    copy: Any = statement._generate()
    copy._limit_clause = copy._offset_clause = copy._fetch_clause = None
    copy._distinct, copy._distinct_on = False, ()
    if not is_orm(copy):
        return copy, False
    if not eager:
        options = _STATE.default_compile_options.safe_merge(copy._compile_options)
        copy._compile_options = options + {"_enable_eagerloads": False}
    state = _STATE._create_orm_context(copy, toplevel=True, compiler=None)
    return state.statement, bool(state.multi_row_eager_loaders)


def added_criteria(statement: Any) -> Iterator[Any]:
    """What `with_loader_criteria` options will add to the WHERE."""
    for option in statement._with_options:
        if isinstance(option, LoaderCriteriaOption):
            for mapper in option._all_mappers():
                yield option._resolve_where_criteria(mapper)


def collection_of(state: Any, key: str, value: Any) -> Any:
    """The members of a loaded collection, of whatever class it is."""
    return state.manager[key].impl.get_collection(state, state.dict, value)


def entities_of(statement: Any) -> tuple[list[str], list[Any], bool]:
    """Labels, extra keys and "one entity" of the result that the ORM would give, without a database."""
    state = _STATE._create_entities_collection(statement, legacy=False)
    entities = state._entities
    single = len(entities) == 1 and entities[0].supports_single_entity
    return [entity._label_name for entity in entities], [entity._extra_entities for entity in entities], single


def load_options_with(token: str, given: Any = None) -> Any:
    """Load options that carry an identity token, on top of those that are given."""
    return (given if given is not None else _DEFAULT_LOAD) + {"_identity_token": token}


def top_level_token(options: Any) -> Any:
    """The identity token of the statement on whose behalf a loader (selectinload) runs, or None."""
    context = options.get("sa_top_level_orm_context")
    return context.load_options._identity_token if context is not None else None


class Phases:
    """One statement of the ORM or of Core, executed in three steps instead of one.

    `autoflush` and `load` belong to the session's own thread; `execute` only uses its connection and may run in
    another.
    """

    def __init__(self, session: Any, statement: Any, params: Any, options: Any, bind_arguments: Any) -> None:
        self._session = session
        self._statement = statement
        self._params = params
        self._bind_arguments = dict(bind_arguments or {})
        self._state = _STATE if is_orm(statement) else None
        if session.execution_options:
            options = session.execution_options.union(statement._execution_options).union(options)
        self._options: Any = immutabledict(options)
        if self._state is not None:
            # is_pre_event holds the flush back
            self._statement, self._options, self._params = self._state.orm_pre_session_exec(
                session, statement, params, self._options, self._bind_arguments, True
            )

    def autoflush(self) -> None:
        """Flush what is pending, as before any query."""
        load = self._options.get("_sa_orm_load_options")
        if load is None or load._autoflush:
            self._session._autoflush()

    def execute(self, connection: Any) -> Any:
        """Send the statement and return the cursor's result."""
        return connection.execute(self._statement, self._params or {}, execution_options=self._options)

    def load(self, result: Any) -> Any:
        """Turn the cursor's result into one of objects, where the ORM has any."""
        if self._state is None:
            return result
        return self._state.orm_setup_cursor_result(
            self._session, self._statement, self._params or {}, self._options, self._bind_arguments, result
        )
