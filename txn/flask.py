"""Participants in a Flask application."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from backstay.errors import Misuse
from backstay.url import require

from .fastapi import note
from .values import Phase, Reply
from .wire import answer, read_request

if TYPE_CHECKING:
    from flask import Blueprint
    from flask.typing import ResponseReturnValue

    from .barrier.participant import Participant

__all__ = ["blueprint"]


def blueprint(participant: Participant, *, url_prefix: str = "") -> Blueprint:
    """Return a blueprint with POST /try, /confirm and /cancel for a participant.

        app.register_blueprint(blueprint(stock, url_prefix="/reservations"))

    and the coordinator's side is `tx.call("http://stock/reservations", ...)`. Nothing here checks who calls:
    put the routes behind the application's own authentication, or where only coordinators can reach them.
    """
    require("flask", "flask")
    from flask import Blueprint, jsonify, request

    given: Any = participant
    if getattr(given, "is_async", None) is not False:
        raise Misuse(f"blueprint() takes a Participant, got {given!r}; an AsyncParticipant needs FastAPI")
    routes = Blueprint(f"tcc_{participant.name}", __name__, url_prefix=url_prefix)

    def serve(phase: Phase) -> ResponseReturnValue:
        read = read_request(phase, dict(request.headers), request.get_data())
        reply = read if isinstance(read, Reply) else participant.perform(read)
        note(participant.name, phase, reply)
        status, body = answer(reply)
        return jsonify(body), status

    for phase in Phase:
        routes.add_url_rule(f"/{phase.value}", endpoint=phase.value, view_func=partial(serve, phase), methods=["POST"])
    return routes
