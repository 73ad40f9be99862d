"""The fence of a Celery task: carried in the message's headers, checked before the task's body runs.

    pay.apply_async((42,), headers=headers(lease))        # where the lock is held

    @app.task                                             # in the worker
    @require_fence(fences, "order:{order_id}")
    def pay(order_id: int) -> None: ...

A task that waits in a queue is the longest pause there is: the lease of whoever sent it may have ended long before.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from backstay.errors import Misuse
from backstay.keys import Template
from backstay.locks.guard import current_lease
from backstay.url import require

from .fences import Fences, checked_fences
from .header import HEADER, headers, token_for
from .token import carried

__all__ = ["headers", "require_fence", "send_fences"]

P = ParamSpec("P")
T = TypeVar("T")

_SENDER = "backstay.locks.guards.celery"


def require_fence(fences: Fences, template: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for the function of a task: its message must carry a fence, at least as high as any before.

    It stands below `@app.task`. A task whose lock was granted to a later holder, who has been here, fails with
    `StaleFence` before its body runs; one without a fence with `FenceMissing`. A retry and a second delivery carry
    the same fence and pass. `current_token()` inside has the fence: hand it on to a `TableGuard` or `fenced` block,
    since a worker that is stopped between this check and its own write is late as well.

    Args:
        fences: where the highest fences are remembered, for all workers: `SqlFences`, `FencedKeys`; `MemoryFences`
            only for a single process.
        template: the lock's name, with fields that name parameters of the task.

    Raises (when decorating):
        Misuse: the template names no parameter, the function is asyncio's or a generator, or `fences` is asyncio's.
        MissingExtra: Celery is not installed.
    """
    require("celery", "celery")
    pattern, store = Template(template), checked_fences(fences)
    if inspect.iscoroutinefunction(store.admit):
        raise Misuse(f"Celery's tasks are plain functions: take the blocking store, not {type(store).__name__}")

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        label = getattr(function, "__qualname__", repr(function))
        if hasattr(function, "apply_async"):
            raise Misuse(f"{label} is a task already: put require_fence below @app.task, next to the function")
        if any(kind(function) for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction)):
            raise Misuse(f"{label}() is no plain function, so its body would run after the check's end")
        key = pattern.bind(function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            token = token_for(key(args, kwargs), _header())
            store.admit(token)
            with carried(token):
                return function(*args, **kwargs)

        return run

    return decorate


def send_fences(*, app: Any = None) -> None:
    """Let every task that is sent from a function under `locks.guard(...)` carry the fence of its lease.

    What `apply_async(headers=...)` says goes before it. It is called once, where the application is set up, and
    serves all Celery applications of the process unless one is named.

    Args:
        app: the Celery application whose tasks are to carry fences; None for all.

    Raises:
        MissingExtra: Celery is not installed.
    """
    signals: Any = require("celery", "celery").signals

    def add(sender: Any = None, headers: Any = None, **rest: Any) -> None:
        if headers is None or HEADER in headers or (app is not None and sender not in app.tasks):
            return
        try:
            lease = current_lease()
        except Misuse:
            return  # sent without a lock
        headers.update(_headers(lease))

    signals.before_task_publish.connect(add, weak=False, dispatch_uid=(_SENDER, id(app) if app is not None else 0))


_headers = headers


def _header() -> str | None:
    """Return the fence's header of the message of the task that runs here."""
    task: Any = require("celery", "celery").current_task
    if not task:
        return None  # called like a plain function
    found: Mapping[str, Any] = task.request.headers or {}
    value = found.get(HEADER, task.request.get(HEADER))
    return value if value is None or isinstance(value, str) else repr(value)
