"""Celery tasks that are refused now are tried again when it makes sense.

@app.task(max_retries=20)
@celery.postponed()
@protect("mail", limit="10/second", store="redis://localhost/0")
def send_mail(address): ...
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from backstay.errors import Misuse, Rejected
from backstay.url import require

from ..policy import Colour, seconds, target_of

__all__ = ["postponed"]

P = ParamSpec("P")
T = TypeVar("T")


def postponed(
    *, least: float = 1.0, most: float = 3600.0, spread: float = 0.1, max_retries: int | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Put off a task that a policy refuses, by `self.retry(countdown=retry_after)`.

    Only refusals are put off: nothing was done. Other errors, an unknown outcome among them, are for Celery's
    `autoretry_for` and for the task itself. Called outside a worker, as a plain function, the refusal is raised.
    A refusal uses up one of the task's retries; when they are used up, it is raised.

    Args:
        least: the shortest countdown, in seconds; also where the refusal knows no time.
        most: the longest countdown.
        spread: up to this share of the countdown is added at random, so that refused tasks do not all come back
            in the same moment.
        max_retries: instead of the task's own.

    Raises:
        Misuse: an argument is wrong, or the function is no plain function: Celery runs no other.
    """
    least, most = seconds(least, "least", zero=True), seconds(most, "most")
    if least > most:
        raise Misuse(f"least must be at most most, got {least!r} > {most!r}")
    if not 0 <= spread <= 1:
        raise Misuse(f"spread must be 0 to 1, got {spread!r}")
    celery: Any = require("celery", "celery")

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        target = target_of(function, getattr(function, "__name__", "task"))
        if target.colour is not Colour.FUNCTION:
            raise Misuse(f"{target.label}() is a {target.colour.value} function; Celery runs plain functions only")
        call: Any = function

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except Rejected as refused:
                task = celery.current_task
                if not task or task.request.called_directly:
                    raise
                after = refused.retry_after
                wait = least if after is None or not math.isfinite(after) else min(most, max(least, after))
                options = {} if max_retries is None else {"max_retries": max_retries}
                raise task.retry(exc=refused, countdown=wait * random.uniform(1, 1 + spread), **options) from refused

        return functools.update_wrapper(run, function)

    return decorate
