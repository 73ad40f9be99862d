"""The fence of a request, checked before a FastAPI endpoint runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from backstay.errors import Misuse
from backstay.keys import Template
from backstay.url import require

from .fences import AsyncFences, Fences, checked_fences
from .header import HEADER, token_for
from .token import FencingToken

__all__ = ["require_fence"]


def require_fence(fences: Fences | AsyncFences, template: str) -> Callable[[Any], Coroutine[Any, Any, FencingToken]]:
    """Return a dependency: the request must carry a fence of the lock, at least as high as any before it.

        Fence = Annotated[FencingToken, Depends(require_fence(fences, "order:{order_id}"))]

        @app.post("/orders/{order_id}/payment")
        async def pay(order_id: int, fence: Fence) -> ...: ...

    A stale fence gives `StaleFence` (409), none `FenceMissing` (428), a broken one `FenceMalformed` (400), as problem
    documents once `backstay.fastapi.install(app)` was called; the endpoint is not run. What the dependency returns
    is to be handed on to a `TableGuard` or `fenced` block, since a process that is stopped between this check and its
    own write is late as well. The header proves nothing about who sends it; whoever may call the endpoint can send a
    high number and lock others out, so authenticate before.

    Args:
        fences: where the highest fences are remembered: `MemoryFences`, `SqlFences`, `FencedKeys` (asked in the
            thread pool) or an asyncio one.
        template: the lock's name, with fields that name parameters of the path.

    Raises:
        Misuse: the template or the store is none; at the first request, a field names no parameter of the path.
    """
    request_type: Any = require("fastapi", "fastapi").Request
    from starlette.concurrency import run_in_threadpool

    pattern, store = Template(template), checked_fences(fences)
    waits = inspect.iscoroutinefunction(store.admit)

    async def check(request: Any) -> FencingToken:
        path: dict[str, Any] = request.path_params
        lacking = [name for name in pattern.names if name not in path]
        if lacking:
            raise Misuse(f"key template {pattern.text!r} names {lacking[0]!r}, which is no parameter of the path")
        # Two header lines of one name mean the same as one with a comma (RFC 9110).
        token = token_for(pattern.fill(path), ",".join(request.headers.getlist(HEADER)) or None)
        if waits:
            await store.admit(token)
        else:
            await run_in_threadpool(store.admit, token)
        return token

    check.__annotations__["request"] = request_type  # FastAPI looks for it; it is imported here only
    return check
