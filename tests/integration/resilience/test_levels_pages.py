"""Static pages and hidden blocks in real applications: FastAPI on uvicorn over a socket, Flask by its client."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator

import flask
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from backstay.errors import Misuse
from backstay.resilience.levels import Actions, Level, Levels, LevelSettings, pages

BODY = "<h1>The shop is short of breath</h1>"


SETTINGS = LevelSettings(confirm=1, every=0.01, minimum_calls=5, hold=0, dwell=0, window=1, minimum_probes=2)


@pytest.fixture
def levels() -> Levels:
    return Levels(SETTINGS, Actions(hide={"recommendations": Level.WARNING}))


def page_of(levels: Levels, *, status: int = 503) -> pages.StaticPage:
    return pages.StaticPage(levels.of("web"), BODY, status=status, made_at=1000.0, wall=lambda: 1090.5)


@pytest.fixture
def broken() -> list[bool]:
    return [False]


@pytest.fixture
def served(levels: Levels, broken: list[bool]) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.add_middleware(pages.Asgi, page=page_of(levels))

    @app.get("/")
    async def index() -> HTMLResponse:
        if broken[0]:
            return HTMLResponse("broken", status_code=502)
        return HTMLResponse("all" if levels.shows("recommendations") else "less")

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", trust_env=False) as client:
            while not server.started:
                time.sleep(0.01)
            yield client
        server.should_exit = True
        thread.join()


def honest(headers: httpx.Headers) -> None:
    assert headers["age"] == "91"
    assert headers["last-modified"] == "Thu, 01 Jan 1970 00:16:40 GMT"
    assert headers["cache-control"] == "no-store"
    assert headers["retry-after"] == "5"
    assert headers["backstay-level"] == 'severe; resource="web"'


def test_DG5_fastapi_hides_a_block_and_then_answers_by_a_static_page(levels: Levels, served: httpx.Client) -> None:
    assert served.get("/").text == "all"
    levels.of("web").force(Level.WARNING)
    assert served.get("/").text == "less"
    levels.of("web").force(Level.SEVERE)
    answers = [served.get("/") for _ in range(2)]  # the first may be a probe
    assert (answers[1].status_code, answers[1].text) == (503, BODY)
    honest(answers[1].headers)
    head = served.head("/")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(BODY)))
    levels.of("web").release()
    assert served.get("/").text == "all"


def test_DG3_the_static_page_comes_by_itself_and_goes_by_probes(
    levels: Levels, served: httpx.Client, broken: list[bool]
) -> None:
    broken[0] = True
    texts: list[str] = []
    until = time.monotonic() + 10
    while (not texts or texts[-1] != BODY) and time.monotonic() < until:
        texts.append(served.get("/").text)
    assert texts[-1] == BODY
    broken[0] = False
    levels.of("web").reconfigure(dataclasses.replace(SETTINGS, probe_every=0.02))
    while levels.level("web") != "normal" and time.monotonic() < until:
        served.get("/")
    assert served.get("/").text == "all"


def flask_app(levels: Levels) -> flask.Flask:
    app = flask.Flask("shop")
    app.jinja_env.globals["shows"] = levels.shows
    template = "products{% if shows('recommendations') %} and recommendations{% endif %}"

    @app.route("/", methods=["GET", "POST"])
    def index() -> str:
        return flask.render_template_string(template)

    @app.get("/fails")
    def fails() -> tuple[str, int]:
        return "no", 500

    @app.get("/one")
    @page_of(levels, status=200).instead_of
    def one() -> str:
        return "one"

    return app


def test_DG5_flask_hides_a_block_and_then_answers_by_a_static_page(levels: Levels) -> None:
    app = flask_app(levels)
    app.wsgi_app = pages.Wsgi(app.wsgi_app, page=page_of(levels, status=200))  # type: ignore[method-assign]
    client = app.test_client()
    web = levels.of("web")
    assert client.get("/").text == "products and recommendations"
    web.force(Level.ERROR)
    assert client.get("/").text == "products"
    web.force(Level.SEVERE)
    web.probe()
    answer = client.get("/")
    assert (answer.status_code, answer.text) == (200, BODY)
    honest(httpx.Headers(list(answer.headers.items())))
    assert client.post("/").status_code == 503  # nothing was done, and it does not look so
    web.release()
    assert client.get("/").text == "products and recommendations"


def test_DG1_flask_answers_of_500_raise_the_level(levels: Levels) -> None:
    app = flask_app(levels)
    app.wsgi_app = pages.Wsgi(app.wsgi_app, page=page_of(levels))  # type: ignore[method-assign]
    client = app.test_client()
    for _ in range(20):
        client.get("/fails")
    time.sleep(0.02)
    levels.evaluate()
    assert levels.of("web").automatic is Level.SEVERE


def test_DG5_one_flask_view_is_replaced(levels: Levels) -> None:
    client = flask_app(levels).test_client()
    assert client.get("/one").text == "one"
    levels.of("web").force(Level.SEVERE)
    levels.of("web").probe()
    assert client.get("/one").text == BODY
    assert client.get("/").text == "products"  # other views go on


def test_a_static_page_is_checked_when_it_is_made(levels: Levels) -> None:
    with pytest.raises(Misuse, match="200 or 503"):
        pages.StaticPage(levels.of("web"), BODY, status=404)
    with pytest.raises(Misuse, match="one line"):
        pages.StaticPage(levels.of("web"), BODY, media_type="text/html\r\nSet-Cookie: a=b")
