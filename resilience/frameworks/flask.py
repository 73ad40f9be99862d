"""Policies round a whole Flask application, or round one view to the end of what it streams.

    flask.install(app, policies=[limit, bulkhead])       # every request, and Backstay's errors as answers

    @app.get("/export")
    @flask.streamed(bulkhead)                             # a permit until the last row was sent
    def export(): ...

For anything else `protect` goes on views as it is; a view's own stream has only begun when the view returns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import backstay.flask
from backstay.url import require

from ..policy import Admitting, Policy, Settle, target_of
from ..policy.together import admit_all, admit_all_async
from . import wsgi
from .answers import SERVER_ERRORS, Policies, listed, outcome, settle_once

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["install", "streamed"]

P = ParamSpec("P")
T = TypeVar("T")


def install(app: Flask, *, policies: Policies, name: str | None = None, **options: Any) -> None:
    """Put policies round all requests of `app`, and answer Backstay's errors that views raise.

    Args:
        app: the application.
        policies: see `wsgi.Protect`.
        name: of what is protected; the application's name by default.
        options: the other arguments of `wsgi.Protect`.

    Raises:
        Misuse: a policy cannot stand here.
        MissingExtra: Flask is not installed.
    """
    inner: Any = app.wsgi_app
    app.wsgi_app = wsgi.Protect(  # type: ignore[method-assign]  # Flask's documented place for middleware
        inner, policies=policies, name=app.name if name is None else name, **options
    )
    backstay.flask.install(app, unknown_status=options.get("unknown_status", 500))


def streamed(
    *policies: Policy | Admitting, failures: Container[int] = SERVER_ERRORS
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Put policies round a view until its answer is closed by the server, streams included.

    A view that raises is settled with its error; an `HTTPException` below 500 (`abort(404)`) is a success.
    Keys of limits are templates or functions of the view's own arguments.

    Args:
        policies: the outermost first; only such as can go round a stream.
        failures: the statuses that are failures.

    Raises:
        Misuse: a policy cannot stand here; at decoration.
    """
    make_response: Callable[..., Any] = require("flask", "flask").make_response

    def decorate(view: Callable[P, T]) -> Callable[P, T]:
        target = target_of(view, getattr(view, "__name__", "view"))
        call: Any = view

        def answered(settle: Settle, value: Any) -> Any:
            try:
                response = make_response(value)
            except BaseException as error:
                settle(error)
                raise
            response.call_on_close(lambda: settle(outcome(response.status_code, failures)))
            return response

        if target.is_async:
            admit_async = admit_all_async(listed(policies), target)

            async def viewed_async(*args: Any, **kwargs: Any) -> Any:
                settle = settle_once(await admit_async(args, kwargs))
                try:
                    value = await call(*args, **kwargs)
                except BaseException as error:
                    settle(_outcome_of(error, failures))
                    raise
                return answered(settle, value)

            return functools.update_wrapper(viewed_async, view)  # type: ignore[return-value]  # the view's own face
        admit = admit_all(listed(policies), target)

        def viewed(*args: Any, **kwargs: Any) -> Any:
            settle = settle_once(admit(args, kwargs))
            try:
                value = call(*args, **kwargs)
            except BaseException as error:
                settle(_outcome_of(error, failures))
                raise
            return answered(settle, value)

        return functools.update_wrapper(viewed, view)

    return decorate


def _outcome_of(error: BaseException, failures: Container[int]) -> BaseException | None:
    is_answer = isinstance(error, require("werkzeug.exceptions", "flask").HTTPException)
    code: int | None = getattr(error, "code", None)  # None: one that carries an answer of its own
    return None if is_answer and code is not None and code not in failures else error
