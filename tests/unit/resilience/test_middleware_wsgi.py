"""`wsgi.Protect` call by call: start_response, exc_info, write, streams and close() stay as they are (IN-1)."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from backstay.errors import Misuse
from backstay.resilience.frameworks.answers import FailedAnswer
from backstay.resilience.frameworks.wsgi import Protect
from backstay.resilience.timeout import remaining
from unit.resilience.recorder import CallsOnly, Recorder

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Server:
    """What a WSGI server is to an application."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []
        self.written: list[bytes] = []

    def start_response(self, *given: Any) -> Callable[[bytes], None]:
        self.started.append(given)
        return self.written.append

    def serve(self, app: Any, environ: dict[str, Any] | None = None) -> list[bytes]:
        """Read the whole body and close it, as the standard demands."""
        found = app({} if environ is None else environ, self.start_response)
        try:
            return list(found)
        finally:
            if hasattr(found, "close"):
                found.close()


class Body:
    """A body that notes when it is begun, read and closed."""

    def __init__(self, *items: bytes | BaseException) -> None:
        self.items = items
        self.log: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        self.log.append("begun")
        for item in self.items:
            self.log.append("read")
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self.log.append("closed")


def answering(body: Any, status: str = "200 OK") -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [("X-A", "1")])
        return body

    return app


def test_IN1_a_stream_is_read_item_by_item_and_settled_after_the_server_has_closed_it() -> None:
    policy, body, server = Recorder(), Body(b"a", b"b"), Server()
    found: Any = Protect(answering(body), policies=[policy])({}, server.start_response)
    assert body.log == []
    assert next(found) == b"a"
    assert body.log == ["begun", "read"]
    assert next(found) == b"b"
    with pytest.raises(StopIteration):
        next(found)
    assert policy.active == 1
    found.close()
    assert policy.told == [None]
    assert body.log[-1] == "closed"
    found.close()
    assert policy.told == [None]


def test_IN1_a_body_that_is_left_half_way_is_closed_and_settled() -> None:
    """A client that goes away: the server stops reading and closes."""
    policy, body = Recorder(), Body(b"a", b"b")
    found: Any = Protect(answering(body), policies=policy)({}, Server().start_response)
    next(found)
    found.close()
    assert body.log == ["begun", "read", "closed"]
    assert policy.told == [None]


def test_IN1_start_response_gets_what_the_application_gave_exc_info_included() -> None:
    server = Server()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("A", "1")])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    policy = Recorder()
    assert server.serve(Protect(app, policies=policy)) == [b"sorry"]
    assert server.started[0] == ("200 OK", [("A", "1")])
    assert server.started[1][:2] == ("500 Oops", [])
    assert server.started[1][2][0] is ValueError
    assert isinstance(policy.told[0], FailedAnswer)


def test_IN1_write_is_the_servers_own() -> None:
    server = Server()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"by write")
        return [b"by body"]

    assert server.serve(Protect(app, policies=Recorder())) == [b"by body"]
    assert server.written == [b"by write"]


@pytest.mark.parametrize("body", [[b"one"], (b"one",)])
def test_IN1_a_list_is_handed_on_as_it_is_so_that_servers_see_its_length(body: Any) -> None:
    policy = Recorder()
    found = Protect(answering(body), policies=policy)({}, Server().start_response)
    assert found is body
    assert policy.told == [None]


def test_IN1_the_standards_own_checker_finds_nothing() -> None:
    """wsgiref's validator inside and outside: neither the application nor the server sees a broken rule."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body(b"a", b"b")

    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "SERVER_NAME": "s", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": "", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": sys.stdin, "wsgi.errors": sys.stderr, "wsgi.multithread": False, "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }  # fmt: skip
    policy = Recorder()
    checked = validator(Protect(validator(app), policies=policy))
    assert Server().serve(checked, environ) == [b"a", b"b"]
    assert policy.told == [None]


def test_IN1_exceptions_pass_and_settle_with_themselves_before_and_within_the_body() -> None:
    policy, broken = Recorder(), RuntimeError("broken")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise broken

    with pytest.raises(RuntimeError):
        Server().serve(Protect(app, policies=policy))
    with pytest.raises(RuntimeError):
        Server().serve(Protect(answering(Body(b"a", broken)), policies=policy))
    assert policy.told == [broken, broken]
    assert policy.active == 0


def test_a_close_that_raises_settles_with_its_error() -> None:
    class Broken(Body):
        def close(self) -> None:
            raise OSError("disk")

    policy = Recorder()
    with pytest.raises(OSError, match="disk"):
        Server().serve(Protect(answering(Broken(b"a")), policies=policy))
    assert [type(told) for told in policy.told] == [OSError]


def test_a_server_that_never_calls_close_loses_no_permit() -> None:
    policy = Recorder(permits=1)
    found: Any = Protect(answering(Body(b"a")), policies=policy)({}, Server().start_response)
    assert policy.active == 1
    del found
    gc.collect()
    assert policy.active == 0


def test_a_refusal_is_answered_as_a_problem_and_the_application_is_not_called() -> None:
    server = Server()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise AssertionError("called")

    (content,) = server.serve(Protect(app, policies=Recorder(permits=0)))
    status, headers = server.started[0]
    fields = dict(headers)
    assert status == "503 Service Unavailable"
    assert fields["Retry-After"] == "1"
    assert fields["Content-Length"] == str(len(content))
    assert json.loads(content)["type"] == "urn:backstay:bulkhead-full"


@pytest.mark.parametrize(("status", "failed"), [("200 OK", False), ("404 Not Found", False), ("503 Busy", True)])
def test_the_status_says_whether_the_request_failed(status: str, failed: bool) -> None:
    policy = Recorder()
    Server().serve(Protect(answering(Body(b""), status), policies=policy))
    assert isinstance(policy.told[0], FailedAnswer) == failed


def test_exempt_requests_and_keys_see_the_environ() -> None:
    policy = Recorder(permits=1)
    app = Protect(answering([b""]), policies=policy, exempt=lambda environ: environ["PATH_INFO"] == "/health")
    Server().serve(app, {"PATH_INFO": "/health"})
    Server().serve(app, {"PATH_INFO": "/"})
    assert policy.seen == [{"PATH_INFO": "/"}]


def test_policies_that_call_functions_are_refused_when_the_middleware_is_made() -> None:
    with pytest.raises(Misuse, match="retry calls a function"):
        Protect(answering([b""]), policies=[CallsOnly()])


def test_the_callers_deadline_is_taken_over_where_that_is_wanted() -> None:
    left: list[float | None] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        left.append(remaining())
        start_response("200 OK", [])
        return [b""]

    environ = {"HTTP_BACKSTAY_DEADLINE_MS": "5000"}
    Server().serve(Protect(app, policies=Recorder(), deadlines=True), environ)
    Server().serve(Protect(app, policies=Recorder()), environ)
    assert left[0] is not None and 4 < left[0] <= 5
    assert left[1] is None
    assert remaining() is None
