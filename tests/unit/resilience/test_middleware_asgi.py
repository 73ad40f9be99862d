"""`asgi.Protect` message by message: what an application and a server see is what they see without it (IN-1)."""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.frameworks.answers import FailedAnswer
from backstay.resilience.frameworks.asgi import Protect
from backstay.resilience.timeout import remaining
from unit.resilience.recorder import CallsOnly, Recorder

HTTP = {"type": "http", "method": "GET", "path": "/", "headers": []}
WEBSOCKET = {"type": "websocket", "path": "/", "headers": []}
place: ContextVar[str] = ContextVar("place", default="nowhere")


class Server:
    """What an ASGI server is to an application: it hands over messages and notes those it gets."""

    def __init__(self, *incoming: dict[str, Any]) -> None:
        self.incoming = list(incoming) or [{"type": "http.request", "body": b"", "more_body": False}]
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return self.incoming.pop(0) if self.incoming else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))

    async def serve(self, app: Any, scope: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        await app(dict(HTTP if scope is None else scope), self.receive, self.send)
        return self.sent


def start(status: int = 200, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [], **more}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def run(app: Any, policy: Recorder, scope: dict[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    return asyncio.run(Server().serve(Protect(app, policies=policy, **options), scope))


def test_IN1_messages_pass_one_by_one_and_unchanged() -> None:
    messages = [start(), body(b"a", more=True), body(b"b", more=True), body()]
    policy = Recorder()
    assert run(answering(*messages), policy) == messages
    assert policy.told == [None]


def test_IN1_a_stream_is_sent_while_it_is_produced_and_holds_its_permit_until_its_last_message() -> None:
    """Nothing is spooled: each message is at the server before the next one is made."""
    policy, server, held = Recorder(), Server(), list[tuple[int, int]]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (start(), body(b"a", more=True), body(b"b", more=True), body()):
            await send(message)
            held.append((len(server.sent), policy.active))
        held.append((len(server.sent), policy.active))  # where background work would run

    asyncio.run(server.serve(Protect(app, policies=[policy])))
    assert held == [(1, 1), (2, 1), (3, 1), (4, 0), (4, 0)]
    assert policy.told == [None]


def test_IN1_context_variables_pass_both_ways_since_it_is_the_same_task() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((place.get(), asyncio.current_task()))
        place.set("inside")
        await send(start())
        await send(body())

    async def main() -> None:
        place.set("outside")
        await Server().serve(Protect(app, policies=Recorder()))
        seen.append((place.get(), asyncio.current_task()))

    asyncio.run(main())
    assert [where for where, _ in seen] == ["outside", "inside"]
    assert seen[0][1] is seen[1][1]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_IN1_lifespan_and_websockets_are_handed_on_untouched(kind: str) -> None:
    got: list[Any] = []
    policy, server = Recorder(permits=0), Server()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend((scope, receive, send))

    scope, receive, send = {"type": kind}, server.receive, server.send
    asyncio.run(Protect(app, policies=policy)(scope, receive, send))
    assert got[0] is scope and got[1] is receive and got[2] is send
    assert policy.told == []


def test_IN1_the_scope_and_receive_are_the_servers_own() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend((scope, receive))
        await send(start(204))
        await send(body())

    server, scope = Server(), dict(HTTP)
    receive = server.receive
    policy = Recorder()
    asyncio.run(Protect(app, policies=policy)(scope, receive, server.send))
    assert got[0] is scope and got[1] is receive
    assert policy.seen == [scope]


@pytest.mark.parametrize("error", [RuntimeError("broken"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_IN1_exceptions_pass_and_settle_with_themselves(error: BaseException) -> None:
    policy = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        raise error

    with pytest.raises(type(error)) as raised:
        run(app, policy)
    assert raised.value is error
    assert policy.told == [error]
    assert policy.active == 0


def test_IN1_what_fails_after_the_last_byte_was_sent_is_not_the_requests_fault() -> None:
    policy = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"done"))
        raise RuntimeError("in the background")

    with pytest.raises(RuntimeError, match="background"):
        run(app, policy)
    assert policy.told == [None]


def test_IN1_a_server_that_cannot_send_any_more_ends_the_admission() -> None:
    policy, gone = Recorder(), OSError("client is gone")

    async def send(message: Any) -> None:
        raise gone

    with pytest.raises(OSError, match="gone"):
        asyncio.run(Protect(answering(start(), body()), policies=policy)(dict(HTTP), Server().receive, send))
    assert policy.told == [gone]


def test_AS3_a_cancelled_request_gives_its_permit_back() -> None:
    policy = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(Server().serve(Protect(app, policies=policy)))
        await asyncio.sleep(0)
        assert policy.active == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert policy.active == 0
    assert isinstance(policy.told[0], asyncio.CancelledError)


@pytest.mark.parametrize(("status", "failed"), [(200, False), (404, False), (499, False), (500, True), (503, True)])
def test_the_status_says_whether_the_request_failed(status: int, failed: bool) -> None:
    policy = Recorder()
    run(answering(start(status), body()), policy)
    (told,) = policy.told
    assert isinstance(told, FailedAnswer) == failed
    assert getattr(told, "status", None) == (status if failed else None)


def test_which_statuses_are_failures_can_be_said() -> None:
    policy = Recorder()
    run(answering(start(404), body()), policy, failures={404})
    run(answering(start(500), body()), policy, failures={404})
    assert [getattr(told, "status", None) for told in policy.told] == [404, None]


def test_an_answer_that_never_began_is_a_failure_and_one_without_an_end_is_judged_by_its_status() -> None:
    policy = Recorder()
    run(answering(), policy)
    run(answering(start(), {"type": "http.response.pathsend", "path": "/file"}), policy)
    assert isinstance(policy.told[0], FailedAnswer)
    assert policy.told[1:] == [None]


def test_a_refusal_is_answered_as_a_problem_and_the_application_is_not_called() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("called")

    head, content = run(app, Recorder(permits=0))
    headers = dict(head["headers"])
    assert head["status"] == 503
    assert headers[b"retry-after"] == b"1"
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"content-length"]) == len(content["body"])
    assert json.loads(content["body"])["type"] == "urn:backstay:bulkhead-full"


def test_what_an_outer_policy_admitted_and_an_inner_one_refused_is_given_back() -> None:
    outer = Recorder(name="outer")
    asyncio.run(Server().serve(Protect(answering(start(), body()), policies=[outer, Recorder(permits=0)])))
    assert outer.active == 0
    assert [type(told).__name__ for told in outer.told] == ["BulkheadFull"]


def test_exempt_requests_pass_without_any_policy() -> None:
    policy = Recorder(permits=0)
    health = {**HTTP, "path": "/health"}
    assert run(answering(start(), body()), policy, health, exempt=lambda scope: scope["path"] == "/health")
    assert policy.told == []


def test_a_websocket_is_admitted_for_as_long_as_it_is_open() -> None:
    policy, active = Recorder(), list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for kind in ("websocket.accept", "websocket.send", "websocket.close"):
            await send({"type": kind})
            active.append(policy.active)

    run(app, policy, WEBSOCKET, websockets=True)
    assert active == [1, 1, 1]
    assert policy.told == [None]


def test_a_refused_websocket_is_closed_and_where_the_server_can_it_is_answered() -> None:
    full = Protect(answering(), policies=Recorder(permits=0), websockets=True)
    closed = asyncio.run(Server({"type": "websocket.connect"}).serve(full, WEBSOCKET))
    assert closed == [{"type": "websocket.close", "code": 1013, "reason": "Refused for now"}]
    able = {**WEBSOCKET, "extensions": {"websocket.http.response": {}}}
    head, content = asyncio.run(Server({"type": "websocket.connect"}).serve(full, able))
    assert (head["type"], head["status"]) == ("websocket.http.response.start", 503)
    assert content["type"] == "websocket.http.response.body"


def test_policies_that_call_functions_are_refused_when_the_middleware_is_made() -> None:
    with pytest.raises(Misuse, match="retry calls a function"):
        Protect(answering(), policies=[Recorder(), CallsOnly()])
    with pytest.raises(Misuse, match="unknown_status"):
        Protect(answering(), policies=[Recorder()], unknown_status=404)


@pytest.mark.parametrize(("sent", "expected"), [(b"250", 0.25), (b"0", 0.0), (b"soon", None), (None, None)])
def test_the_callers_deadline_is_taken_over_where_that_is_wanted(sent: bytes | None, expected: float | None) -> None:
    left: list[float | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        left.append(remaining(clock=lambda: 0.0) if expected is None else remaining())
        await send(start())
        await send(body())

    scope = {**HTTP, "headers": [] if sent is None else [(b"backstay-deadline-ms", sent)]}
    run(app, Recorder(), scope, deadlines=True)
    run(app, Recorder(), scope)
    if expected is None:
        assert left == [None, None]
    else:
        assert left[0] is not None and expected - 0.2 <= left[0] <= expected
        assert left[1] is None
