"""The fence of a request, checked before a Flask view runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from backstay.errors import Misuse
from backstay.keys import Template
from backstay.url import require

from .fences import Fences, checked_fences
from .header import HEADER, token_for
from .token import carried

__all__ = ["require_fence"]

P = ParamSpec("P")
T = TypeVar("T")


def require_fence(fences: Fences, template: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for views: the request must carry a fence of the lock, at least as high as any before it.

        @app.post("/orders/<int:order_id>/payment")
        @require_fence(fences, "order:{order_id}")
        def pay(order_id: int) -> ...: ...

    A stale fence gives `StaleFence` (409), none `FenceMissing` (428), a broken one `FenceMalformed` (400), as problem
    documents once `backstay.flask.install(app)` was called; the view is not run. `current_token()` inside the view
    has the fence: hand it on to a `TableGuard` or `fenced` block, since a process that is stopped between this check
    and its own write is late as well. The header proves nothing about who sends it; whoever may call the view can
    send a high number and lock others out, so authenticate before.

    Args:
        fences: where the highest fences are remembered: `MemoryFences`, `SqlFences`, `FencedKeys`.
        template: the lock's name, with fields that name parameters of the view.

    Raises (when decorating):
        Misuse: the template names no parameter, the view is a generator, or `fences` is an asyncio store.
    """
    require("flask", "flask")
    pattern, store = Template(template), checked_fences(fences)
    if inspect.iscoroutinefunction(store.admit):
        raise Misuse(f"Flask's views run in threads: take the blocking store, not {type(store).__name__}")

    def decorate(view: Callable[P, T]) -> Callable[P, T]:
        if inspect.isgeneratorfunction(view) or inspect.isasyncgenfunction(view):
            raise Misuse(f"{view.__qualname__}() is a generator: its body runs after the check's end; check inside it")
        key = pattern.bind(view)

        def checked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            from flask import request

            token = token_for(key(args, kwargs), request.headers.get(HEADER))
            store.admit(token)
            return carried(token)

        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def async_view(*args: P.args, **kwargs: P.kwargs) -> Any:
                with checked(args, kwargs):
                    return await view(*args, **kwargs)

            return cast("Callable[P, T]", async_view)

        @functools.wraps(view)
        def plain_view(*args: P.args, **kwargs: P.kwargs) -> T:
            with checked(args, kwargs):
                return view(*args, **kwargs)

        return plain_view

    return decorate
