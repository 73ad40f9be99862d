"""Backstay's errors as HTTP answers of a Flask application.

    from backstay.flask import install
    install(app)

Nothing else is installed: no hooks, no middleware, no extension state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backstay.errors import BackstayError
from backstay.problem import check_unknown_status, problem
from backstay.url import require

if TYPE_CHECKING:
    from flask import Blueprint, Flask, Response

__all__ = ["install"]


def install(app: Flask | Blueprint, *, unknown_status: int = 500) -> None:
    """Answer each kind of Backstay error with its HTTP status and a problem document.

    `Rejected` gives 429, 409 or 503, with `Retry-After` where the error knows it; `Unavailable` gives 503,
    `OutcomeUnknown` 500 or 202 with what to ask, `Misuse` 500. Other errors are left alone. An application's
    own handler for a subclass goes before these.

    Args:
        app: the application, or a blueprint for its own views only.
        unknown_status: 500, or 202 where clients know to ask again.

    Raises:
        Misuse: `unknown_status` is another number.
        MissingExtra: Flask is not installed.
    """
    check_unknown_status(unknown_status)
    response: type[Response] = require("flask", "flask").Response

    def answer(error: BackstayError) -> Response:
        found = problem(error, unknown_status=unknown_status)
        return response(found.body, status=found.status, headers=found.headers)

    app.register_error_handler(BackstayError, answer)
