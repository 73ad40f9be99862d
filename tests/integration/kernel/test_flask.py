"""Errors as answers of a real Flask application."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from flask import Blueprint, Flask

from backstay.errors import Misuse, NotAcquired, RateLimited
from backstay.flask import install


@pytest.fixture
def app(cases: dict[str, Any]) -> Flask:
    app = Flask(__name__)
    install(app)

    @app.get("/fail/<name>")
    def fail(name: str) -> str:
        raise cases[name].make()

    @app.get("/fine")
    def fine() -> str:
        return "fine"

    @app.get("/foreign")
    def foreign() -> str:
        raise LookupError("not ours")

    return app


def test_each_error_is_answered_as_its_kind(app: Flask, case: tuple[str, Any], secret: str) -> None:
    name, expected = case
    answer = app.test_client().get(f"/fail/{name}")
    assert answer.status_code == expected.status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("Retry-After") == expected.retry_after
    body = answer.get_json(force=True)
    assert body["type"] == f"urn:backstay:{expected.kind}"
    assert body["status"] == expected.status
    assert body["title"]
    if expected.detail is not None:
        assert body["detail"] == expected.detail
    assert secret not in answer.text


def test_what_is_no_error_of_ours_is_left_alone(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/fine").text == "fine"
    assert client.get("/missing").status_code == 404
    answer = client.get("/foreign")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] != "application/problem+json"


def test_an_unknown_outcome_is_accepted_by_choice_with_what_to_ask(cases: dict[str, Any]) -> None:
    app = Flask(__name__)
    install(app, unknown_status=202)

    @app.post("/pay")
    def pay() -> str:
        raise cases["unknown"].make()

    answer = app.test_client().post("/pay")
    assert answer.status_code == 202
    assert answer.get_json(force=True)["ask"] == {"gtrid": "g1"}


def test_an_applications_own_handler_goes_first(app: Flask) -> None:
    @app.errorhandler(NotAcquired)
    def own(error: NotAcquired) -> tuple[str, int]:
        return f"own: {error}", 418

    client = app.test_client()
    assert (client.get("/fail/held").status_code, client.get("/fail/held").text) == (418, "own: held by web-3")
    assert client.get("/fail/limited").status_code == 429


def test_a_blueprint_can_have_it_for_its_own_views() -> None:
    app, shop = Flask(__name__), Blueprint("shop", __name__)
    install(shop)

    @shop.get("/inside")
    def inside() -> str:
        raise RateLimited("slow down", retry_after=3)

    @app.get("/outside")
    def outside() -> str:
        raise RateLimited("slow down", retry_after=3)

    app.register_blueprint(shop)
    client = app.test_client()
    assert client.get("/inside").status_code == 429
    assert client.get("/outside").status_code == 500


def test_nothing_else_is_installed(app: Flask) -> None:
    fresh = Flask(__name__)
    assert app.before_request_funcs == fresh.before_request_funcs
    assert app.after_request_funcs == fresh.after_request_funcs
    assert app.teardown_request_funcs == fresh.teardown_request_funcs
    assert app.extensions == fresh.extensions
    assert type(app.wsgi_app) is type(fresh.wsgi_app)


def test_an_unknown_status_that_is_neither_is_refused_and_nothing_is_installed() -> None:
    app = Flask(__name__)
    with pytest.raises(Misuse, match="500 or 202"):
        install(app, unknown_status=404)
    assert app.error_handler_spec == Flask(__name__).error_handler_spec


def test_without_flask_the_cure_is_named() -> None:
    code = """
import sys
sys.modules["flask"] = None
from backstay.errors import MissingExtra
from backstay.flask import install
try:
    install(object())
except MissingExtra as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'backstay[flask]'" in ended.stdout
