"""What the end of a call says about the dependency: success, failure, ignored, or nothing at all (CB-3)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from backstay.errors import Misuse, Rejected

__all__ = ["Judge", "Outcome", "Which", "judge_of"]

logger = logging.getLogger("backstay.resilience")

Which: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]"
"""Exceptions, by class or by a function that tells."""
Judge: TypeAlias = "Callable[[BaseException], Outcome]"


class Outcome(Enum):
    """A class of ends. Ignored and neutral ends give a permit back and enter no window."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    """The caller's business, by configuration or by nature: it says nothing about the dependency."""
    NEUTRAL = "neutral"
    """Cancelled, interrupted, or refused before the dependency was reached."""


def judge_of(failure: Which, ignored: Which) -> Judge:
    """Return what tells outcomes by exceptions.

    What is no `Exception` is neutral, always (AS-3). Then `ignored` decides. A refusal by a policy further in, and
    a mistake in the use of Backstay, are neutral and ignored, unless `failure` names their class. What is not a
    failure is a success: the dependency answered.

    Raises:
        Misuse: one of the two is neither exception classes nor a function of one argument.
    """
    is_failure, is_ignored = _teller(failure, "failure"), _teller(ignored, "ignored")
    named = tuple(kind for kind in _classes(failure) if issubclass(kind, Rejected | Misuse))

    def judge(error: BaseException) -> Outcome:
        if not isinstance(error, Exception):
            return Outcome.NEUTRAL
        if _ask(is_ignored, error, unsure=False):
            return Outcome.IGNORED
        if isinstance(error, Rejected | Misuse) and not isinstance(error, named):
            return Outcome.NEUTRAL if isinstance(error, Rejected) else Outcome.IGNORED
        return Outcome.FAILURE if _ask(is_failure, error, unsure=True) else Outcome.SUCCESS

    return judge


def _classes(which: Any) -> tuple[type[BaseException], ...]:
    return tuple(each for each in _listed(which) if isinstance(each, type) and issubclass(each, BaseException))


def _listed(which: Any) -> list[Any]:
    return list(which) if isinstance(which, tuple) else [which]  # pyright: ignore[reportUnknownArgumentType]


def _teller(which: Any, name: str) -> Callable[[Exception], bool]:
    classes = _classes(which)
    if isinstance(which, tuple | type):
        if len(classes) != len(_listed(which)):
            raise Misuse(f"{name} must be exception classes or a function of the exception, got {which!r}")
        return lambda error: isinstance(error, classes)
    if not callable(which) or inspect.iscoroutinefunction(which):
        raise Misuse(f"{name} must be exception classes or a plain function of the exception, got {which!r}")
    told: Any = which
    function: Callable[[Exception], bool] = told
    return function


def _ask(which: Callable[[Exception], bool], error: Exception, *, unsure: bool) -> bool:
    try:
        return bool(which(error))
    except Exception:  # the caller is to see the error of the call, not that of a predicate
        logger.exception("%r could not judge %s", which, type(error).__name__)
        return unsure
