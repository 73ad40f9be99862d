"""Pipelines round httpx and requests against a real server: what is repeated, what is held, and for how long."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests

from backstay.errors import BreakerOpen, BulkheadFull, Misuse, RateLimited
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.fallback import Fallback
from backstay.resilience.frameworks.httpx import AsyncTransport, FailedAnswer, Transport
from backstay.resilience.frameworks.requests import Adapter
from backstay.resilience.pipeline import Pipeline
from backstay.resilience.rate_limiting.policy import RateLimit
from backstay.resilience.timeout import DeadlineExceeded, deadline
from backstay.testing import measured
from integration.resilience.site import CLIENTS, Answer, Site
from unit.resilience.recorder import Again, Recorder


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.close()


@pytest.fixture(params=sorted(CLIENTS))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    clients: list[Any] = []

    def make(*policies: Any, **options: Any) -> Any:
        if policies:
            options["pipeline"] = Pipeline(f"outgoing.{request.param}", *policies)
        clients.append(CLIENTS[request.param](**options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_a_call_passes_and_is_measured_once(site: Site, connect: Callable[..., Any]) -> None:
    policy = Recorder()
    client = connect(policy)
    with measured() as counts:
        assert client.send("POST", site.url, content=b"hello") == (200, b"ok")
    assert counts.count("operation.duration", outcome="ok") == 1
    assert policy.told == [None]
    assert policy.seen[0].url is not None
    assert [(seen.method, seen.body) for seen in site.seen] == [("POST", b"hello")]


def test_RT1_a_failed_answer_of_an_idempotent_method_is_repeated(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.extend([Answer(503), Answer(502)])
    again, policy = Again(3), Recorder()
    client = connect(again, policy)
    assert client.send("PUT", site.url, content=b"body") == (200, b"ok")
    assert [seen.body for seen in site.seen] == [b"body"] * 3
    assert [getattr(told, "status", None) for told in policy.told] == [503, 502, None]
    assert policy.active == 0


def test_RT1_the_last_answer_reaches_the_caller_as_an_answer(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.extend([Answer(503), Answer(500, chunks=(b"sorry",))])
    client = connect(Again(2))
    assert client.send("GET", site.url) == (500, b"sorry")
    assert len(site.seen) == 2


@pytest.mark.parametrize("how", ["method", "body"])
def test_RT1_what_cannot_be_sent_twice_is_sent_once(site: Site, connect: Callable[..., Any], how: str) -> None:
    site.answers.append(Answer(503))
    client = connect(Again(3))
    if how == "method":
        assert client.send("POST", site.url, content=b"pay")[0] == 503
    else:
        assert client.upload(site.url, iter([b"a", b"b"])) == 503
    assert len(site.seen) == 1


def test_RT1_an_idempotency_key_or_a_named_method_makes_a_post_repeatable(
    site: Site, connect: Callable[..., Any]
) -> None:
    site.answers.append(Answer(503))
    assert connect(Again(3)).send("POST", site.url, content=b"1", headers={"Idempotency-Key": "7"})[0] == 200
    site.answers.append(Answer(503))
    assert connect(Again(3), methods={"post"}).send("POST", site.url, content=b"2")[0] == 200
    assert [seen.body for seen in site.seen] == [b"1", b"1", b"2", b"2"]


def test_RT1_retry_hears_what_the_service_asked_to_wait(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.append(Answer(429, headers={"Retry-After": "7"}))
    site.answers.append(
        Answer(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:09 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"})
    )
    again = Again(3)
    assert connect(again, failures={429, 503}).send("GET", site.url)[0] == 200
    assert again.heard == [7.0, 9.0]


def test_a_4xx_is_no_failure_unless_it_is_named(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.append(Answer(404))
    policy = Recorder()
    assert connect(Again(3), policy).send("GET", site.url)[0] == 404
    assert policy.told == [None]
    assert len(site.seen) == 1


def test_CB10_a_streamed_answer_holds_its_permit_until_it_was_read(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.append(Answer(chunks=(b"a", b"b")))
    policy = Recorder(permits=1)
    client = connect(policy)
    with client.stream(site.url) as read:
        assert policy.active == 1
        got = b""
        while (chunk := read()) is not None:
            got += chunk
        assert got == b"ab"
    assert policy.told == [None]
    assert policy.active == 0


def test_CB10_a_stream_that_is_closed_half_way_gives_its_permit_back(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.append(Answer(chunks=(b"a" * 10, b"b" * 10)))
    policy = Recorder(permits=1)
    client = connect(policy)
    with client.stream(site.url) as read:
        assert read()
        with pytest.raises(BulkheadFull):
            client.send("GET", site.url)
    assert policy.told == [None]
    assert client.send("GET", site.url) == (200, b"ok")


def test_CB10_a_stream_that_breaks_is_a_failure_of_the_dependency(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.append(Answer(chunks=(b"a",), breaks=True))
    policy = Recorder()
    client = connect(policy)
    with pytest.raises(client.errors):
        client.send("GET", site.url)
    assert len(policy.told) == 1
    assert isinstance(policy.told[0], Exception)
    assert policy.active == 0


def test_CB10_the_breaker_counts_answers_and_broken_bodies(site: Site, connect: Callable[..., Any]) -> None:
    breaker = CircuitBreaker(f"outgoing.breaker.{site.host}", failure_rate=0.5, minimum_calls=4, open_for=60.0)
    client = connect(breaker)
    site.answers.extend([Answer(), Answer(), Answer(500), Answer(chunks=(b"a",), breaks=True)])
    for _ in range(3):
        client.send("GET", site.url)
    assert breaker.state.value == "closed"
    with pytest.raises(client.errors):
        client.send("GET", site.url)
    with pytest.raises(BreakerOpen):
        client.send("GET", site.url)
    assert len(site.seen) == 4


def test_CO1_the_limiter_is_charged_once_a_call_and_the_breaker_sees_each_attempt(
    site: Site, connect: Callable[..., Any]
) -> None:
    limit = RateLimit("outgoing.limit." + site.host.replace(":", "."), rate="1/day")
    site.answers.extend([Answer(503), Answer(503)])
    policy = Recorder()
    client = connect(limit, Again(3), policy)
    assert client.send("GET", site.url)[0] == 200
    assert len(policy.told) == 3
    with pytest.raises(RateLimited):
        client.send("GET", site.url)
    assert len(site.seen) == 3


def test_what_cannot_be_reached_is_the_clients_own_error_and_is_repeated(connect: Callable[..., Any]) -> None:
    gone = Site()
    gone.close()
    policy = Recorder()
    client = connect(Again(3), policy)
    with pytest.raises(client.errors):
        client.send("GET", gone.url)
    assert len(policy.told) == 3
    assert policy.active == 0


def test_a_deadline_becomes_the_clients_timeouts_and_is_sent_along(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.extend([Answer(), Answer(waits=3.0)])
    policy = Recorder()
    client = connect(policy)
    with deadline(1.5):
        client.send("GET", site.url)
    assert 500 < int(site.seen[0].headers["backstay-deadline-ms"]) <= 1500
    with deadline(0.2), pytest.raises(client.errors) as late:
        client.send("GET", site.url)
    assert late.type.__name__ == "ReadTimeout"
    with deadline(0), pytest.raises(DeadlineExceeded):
        client.send("GET", site.url)
    site.release.set()
    assert len(site.seen) == 2
    assert policy.active == 0
    client.send("GET", site.url)
    assert "backstay-deadline-ms" not in site.seen[2].headers


def test_each_host_has_a_pipeline_of_its_own_up_to_the_limit(connect: Callable[..., Any]) -> None:
    sites = [Site() for _ in range(4)]
    made: dict[str, Recorder] = {}

    def per_host(host: str) -> Pipeline:
        made[host] = Recorder()
        return Pipeline("outgoing.hosts", made[host])

    client = connect(per_host=per_host, most_hosts=2)
    for _ in range(2):
        for site in sites:
            client.send("GET", site.url)
    assert list(made) == [sites[0].host, sites[1].host, "_other"]
    assert [len(policy.told) for policy in made.values()] == [2, 2, 4]
    for site in sites:
        site.close()


def test_a_change_of_the_pipeline_reaches_the_next_call(site: Site, connect: Callable[..., Any]) -> None:
    pipeline = Pipeline("outgoing.change", Recorder())
    client = connect(pipeline=pipeline)
    client.send("GET", site.url)
    pipeline.replace(Recorder(permits=0))
    with pytest.raises(BulkheadFull):
        client.send("GET", site.url)


def test_a_call_inside_a_call_keeps_its_own_attempts(site: Site, connect: Callable[..., Any]) -> None:
    """Tokens are often fetched while a request is sent: the inner call's failure is not the outer one's."""
    inner = httpx.Client(transport=Transport(pipeline=Pipeline("outgoing.token", Again(1))))

    class Fetches(Recorder):
        def _admit(self, args: tuple[Any, ...]) -> Any:
            assert inner.get(site.url).status_code == 500
            return super()._admit(args)

    site.answers.extend([Answer(500), Answer(503), Answer(500), Answer()])
    assert connect(Again(2), Fetches()).send("GET", site.url) == (200, b"ok")
    assert len(site.seen) == 4
    inner.close()


def test_a_forgotten_answer_gives_its_permit_back_when_it_is_collected(site: Site) -> None:
    policy = Recorder()
    session = requests.Session()
    session.mount("http://", Adapter(pipeline=Pipeline("outgoing.forgotten", policy)))
    answer = session.get(site.url, stream=True, timeout=5)
    assert policy.active == 1
    answer.raw.close = lambda: None  # type: ignore[method-assign]  # what urllib3 does is not looked at
    del answer
    gc.collect()
    assert policy.active == 0
    session.close()


def test_a_file_is_not_repeated_by_requests(site: Site) -> None:
    site.answers.append(Answer(503))
    session = requests.Session()
    session.mount("http://", Adapter(pipeline=Pipeline("outgoing.file", Again(3))))
    assert session.put(site.url, data=io.BytesIO(b"file"), timeout=5).status_code == 503
    assert [seen.body for seen in site.seen] == [b"file"]
    session.close()


def test_redirects_and_cookies_are_the_clients_own(site: Site, connect: Callable[..., Any]) -> None:
    site.answers.extend([Answer(200, headers={"Set-Cookie": "a=1"}), Answer()])
    client = connect(Recorder())
    client.send("GET", site.url)
    client.send("GET", site.url)
    assert site.seen[1].headers["cookie"] == "a=1"


class Hedging(Again):
    kind = "hedge"


@pytest.mark.parametrize("make", [Transport, AsyncTransport, Adapter])
def test_mistakes_are_found_when_the_client_is_made(make: Any) -> None:
    some = Pipeline("outgoing.mistakes", Recorder())
    with pytest.raises(Misuse, match="per_host"):
        make()
    with pytest.raises(Misuse, match="per_host"):
        make(pipeline=some, per_host=lambda host: some)
    with pytest.raises(Misuse, match="Pipeline"):
        make(pipeline=Recorder())
    with pytest.raises(Misuse, match="most_hosts"):
        make(per_host=lambda host: some, most_hosts=0)
    with pytest.raises(Misuse, match="failures"):
        make(pipeline=some, failures=500)
    with pytest.raises(Misuse, match="methods"):
        make(pipeline=some, methods="PUT")
    with pytest.raises(Misuse, match="hedge"):
        make(pipeline=Pipeline("outgoing.hedge", Hedging(2)))


def test_a_transport_of_the_other_colour_is_refused() -> None:
    some = Pipeline("outgoing.colours", Recorder())
    wrong: Any = httpx.AsyncHTTPTransport()
    with pytest.raises(Misuse, match="blocking"):
        Transport(pipeline=some, transport=wrong)
    wrong = httpx.HTTPTransport()
    with pytest.raises(Misuse, match="asyncio"):
        AsyncTransport(pipeline=some, transport=wrong)


@pytest.mark.parametrize("client", ["httpx", "httpx.async", "requests"])
def test_RT1_the_answer_of_an_attempt_is_closed_before_the_next_begins(client: str, site: Site) -> None:
    """With one connection in the pool, an answer left open would hold it, and the next attempt could not be sent."""
    site.answers.extend([Answer(503, chunks=(b"a", b"b")), Answer(503)])
    pipeline = Pipeline("outgoing.closed", Again(3))
    if client == "requests":
        session = requests.Session()
        session.mount("http://", Adapter(pipeline=pipeline, pool_maxsize=1, pool_connections=1, pool_block=True))
        assert session.get(site.url, timeout=2).status_code == 200
        session.close()
        return
    limits = httpx.Limits(max_connections=1)
    if client == "httpx":
        with httpx.Client(
            transport=Transport(pipeline=pipeline, transport=httpx.HTTPTransport(limits=limits)), timeout=1
        ) as blocking:
            assert blocking.get(site.url).status_code == 200
        return

    async def main() -> int:
        inner = httpx.AsyncHTTPTransport(limits=limits)
        async with httpx.AsyncClient(transport=AsyncTransport(pipeline=pipeline, transport=inner), timeout=1) as client:
            return (await client.get(site.url)).status_code

    assert asyncio.run(main()) == 200


def test_CO3_a_fallback_answers_with_a_response_of_the_client_or_is_misused(site: Site) -> None:
    def spare(request: httpx.Request) -> httpx.Response:
        return httpx.Response(203, text=f"spare for {request.url.path}")

    full = Recorder(permits=0)
    served = Pipeline("outgoing.served", Fallback("outgoing.served", answer=spare), full)
    with measured() as counts, httpx.Client(transport=Transport(pipeline=served)) as client:
        answer = client.get(f"{site.url}/x")
        assert (answer.status_code, answer.text) == (203, "spare for /x")
    assert counts.count("operation.duration", resource="outgoing.served", outcome="degraded") == 1
    site.answers.append(Answer(503))
    covered = Pipeline("outgoing.covered", Fallback("outgoing.covered", answer=spare, on=FailedAnswer))
    with httpx.Client(transport=Transport(pipeline=covered)) as client:
        assert client.get(f"{site.url}/y").text == "spare for /y"
    wrong = Pipeline("outgoing.wrong", Fallback("outgoing.wrong", answer="spare"), full)
    with httpx.Client(transport=Transport(pipeline=wrong)) as client, pytest.raises(Misuse, match=r"httpx\.Response"):
        client.get(site.url)
    assert [seen.path for seen in site.seen] == ["/y"]
