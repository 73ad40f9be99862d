"""The two faces of a guard say and take the same."""

from __future__ import annotations

import inspect

import pytest

from backstay.locks.guards.redis import AsyncFencedKeys, FencedKeys
from backstay.locks.guards.sqlalchemy import AsyncSqlFences, AsyncTableGuard, SqlFences, TableGuard

PAIRS = [(FencedKeys, AsyncFencedKeys), (TableGuard, AsyncTableGuard), (SqlFences, AsyncSqlFences)]


@pytest.mark.parametrize(("plain", "twin"), PAIRS, ids=lambda face: face.__name__)
def test_twins_have_the_same_methods_and_parameters(plain: type, twin: type) -> None:
    def surface(face: type) -> dict[str, list[tuple[str, object, object]]]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(face, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(plain) == surface(twin)


def test_redis_texts_are_the_same_word_for_word() -> None:
    for name in ("key", "tag", "set", "delete", "run", "admit", "close"):
        assert inspect.getdoc(getattr(FencedKeys, name)) == inspect.getdoc(getattr(AsyncFencedKeys, name))
