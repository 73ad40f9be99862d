"""What kind of statement came in, before anything else is decided."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.sql.lambdas import LambdaElement

from .errors import Unroutable
from .internals import is_kind

__all__ = ["refuse_unreadable", "resolved"]


def resolved(statement: Any) -> Any:
    """The statement itself; of a `lambda_stmt` what it stands for. What is no statement is refused."""
    if is_kind(statement, LambdaElement):
        return statement._resolved
    if not hasattr(statement, "is_dml"):
        found = inspect(statement, raiseerr=False)
        raise Unroutable(f"execute select(), insert(), update() or delete(), not {type(found or statement).__name__}")
    return statement


def refuse_unreadable(statement: Any) -> None:
    """Refuse a statement whose tables cannot be seen.

    Raises:
        Unroutable: it is a text or something else that is no SELECT.
    """
    if not statement.is_select or statement.is_text or statement.is_from_statement:
        raise Unroutable(
            f"{type(statement).__name__} cannot be routed: its tables cannot be seen",
            clause=type(statement).__name__,
            cure="write it with select(), or name the shard: execution_options={'shard': 's0'}",
        )
