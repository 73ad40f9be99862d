"""The switch service as processes on SQLite and PostgreSQL: push between replicas, kill -9, races, TLS, limits."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import trustme
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from backstay.resilience.switch_service import Store
from backstay.resilience.switches.evaluation import bucket_of
from integration.resilience.switch_replicas import CONFIG, SCOPE, Operator, Replica, events

Start = Callable[..., Replica]
ENDED = (0, -15)  # uvicorn ends in order, and then by the signal that it was sent


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a replica; all are ended after the test."""
    started: list[Replica] = []

    def one(store: str, **options: object) -> Replica:
        started.append(Replica(store, **options))  # type: ignore[arg-type]  # handed on
        return started[-1]

    yield one
    for replica in reversed(started):
        replica.close()


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'switches.db'}"


def test_SW8_the_first_start_prints_one_token_and_an_acknowledged_change_outlives_kill_9(
    tmp_path: Path, start: Start
) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    assert operator.client.get(CONFIG).status_code == 404
    assert operator.change(0, recommendations=False).status_code == 200
    before = operator.read()
    replica.kill()
    again = start(sqlite(tmp_path), port=replica.port)
    assert again.token == ""  # it is printed once
    assert operator.read() == before
    assert operator.change(1, recommendations=True).json()["version"] == 2
    assert again.stop() in ENDED
    assert replica.token not in "".join(again.output)


def test_SW8_changes_under_way_at_kill_9_are_whole_or_not_there(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    acknowledged: list[int] = []

    def write() -> None:
        version = 0
        try:
            while True:
                answer = operator.change(version, a=version % 2 == 0, count={"enabled": True, "reason": str(version)})
                version = int(answer.json()["version"])
                acknowledged.append(version)
        except httpx.HTTPError:
            return

    writing = threading.Thread(target=write)
    writing.start()
    while len(acknowledged) < 20:
        time.sleep(0.005)
    replica.kill()
    writing.join(20)
    with Store(sqlite(tmp_path)) as store:
        present = store.documents.current(SCOPE)
        assert present is not None
        assert present.version in (acknowledged[-1], acknowledged[-1] + 1)  # the last one may have been under way
        assert present.items["switches"]["count"]["reason"] == str(present.version - 1)
        versions = [past.version for past in store.documents.history(SCOPE, limit=200)]
        audited = [row for row in store.records.page(("*/*",), limit=1000)[0] if row["action"] == "change"]
    assert versions == list(range(present.version, 0, -1))
    assert [row["detail"]["version"] for row in audited] == versions


def test_SW12_a_service_with_an_empty_database_is_after_everything_before(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    for version in range(3):
        operator.change(version, a=version % 2 == 0)
    before = operator.read()
    replica.kill()
    for left in tmp_path.glob("switches.db*"):
        left.unlink()
    again = start(sqlite(tmp_path), port=replica.port)
    assert again.token not in ("", replica.token)
    assert operator.client.get(CONFIG).status_code == 401  # its token went with the database
    operator = again.operator()
    assert operator.client.get(CONFIG).status_code == 404
    assert operator.change(0, a=True).json()["version"] == 1
    assert operator.read()["epoch"] > before["epoch"]


def test_SW10_two_replicas_on_postgresql_push_what_the_other_wrote_within_a_second(
    postgres_url: str, start: Start
) -> None:
    one = start(postgres_url)
    two = start(postgres_url)
    assert (bool(one.token), two.token) == (True, "")
    first, second = one.operator(), two.operator(one.token)
    first.change(0, a=True)
    while second.client.get(CONFIG).status_code == 404:
        time.sleep(0.02)
    delays: list[float] = []
    with second.client.stream("GET", f"{CONFIG}/events") as response:
        heard = events(response)
        kind, data = next(heard)
        assert (kind, data["version"]) == ("version", 1)
        for version in range(1, 11):
            began = time.monotonic()
            assert first.change(version, a=version % 2 == 0).status_code == 200
            kind, data = next(each for each in heard if each[0] == "version")
            delays.append(time.monotonic() - began)
            assert data["version"] == version + 1
    assert max(delays) < 1.0
    assert second.read() == first.read()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_SW8_of_writers_at_two_replicas_exactly_one_wins_each_version(
    tmp_path: Path, request: pytest.FixtureRequest, start: Start, engine: str
) -> None:
    store = sqlite(tmp_path) if engine == "sqlite" else str(request.getfixturevalue("postgres_url"))
    one = start(store)
    two = start(store)
    operators = [(one, two)[number % 2].operator(one.token) for number in range(6)]
    gate = threading.Barrier(len(operators))

    def race(operator: Operator, number: int) -> list[int]:
        answers = []
        for version in range(8):
            gate.wait(30)
            answers.append(
                operator.change(version, winner={"enabled": True, "reason": f"{number} at {version}"}).status_code
            )
        return answers

    with ThreadPoolExecutor(len(operators)) as pool:
        rounds = list(zip(*pool.map(race, operators, range(len(operators))), strict=True))
    assert [sorted(answers) for answers in rounds] == [[200] + [409] * 5] * 8
    winners = [answers.index(200) for answers in rounds]
    history = operators[0].client.get(f"{CONFIG}/versions").json()["versions"]
    told = [each["changes"][0]["new"]["reason"] for each in reversed(history)]
    assert told == [f"{number} at {version}" for version, number in enumerate(winners)]


def test_SW12_a_database_that_goes_and_comes_back(own_postgres: Callable[[], object], start: Start) -> None:
    server = own_postgres()
    replica = start(server.url)  # type: ignore[attr-defined]  # a Server of tests/servers
    operator = replica.operator()
    operator.change(0, a=True)
    server.kill()  # type: ignore[attr-defined]
    assert operator.client.get(CONFIG).status_code == 200  # what is in force is known still
    refused = operator.change(1, a=False)
    assert refused.status_code == 503
    assert refused.json()["detail"].startswith("A service that this one needs did not answer")
    end = time.monotonic() + 30
    while operator.client.get("/healthz").status_code != 503:
        assert time.monotonic() < end
        time.sleep(0.05)
    server.start()  # type: ignore[attr-defined]
    while operator.change(1, a=False).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert operator.read()["version"] == 2
    while operator.client.get("/healthz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_SW12_a_client_that_reads_nothing_keeps_nobody_else_waiting(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    operator.change(0, a=True)
    deaf = socket.create_connection(("127.0.0.1", replica.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"GET {CONFIG}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {replica.token}\r\n\r\n"
    deaf.sendall(head.encode())
    with operator.client.stream("GET", f"{CONFIG}/events") as response:
        heard = events(response)
        next(heard)
        for version in range(1, 40):
            assert operator.change(version, a=version % 2 == 0).status_code == 200
        assert next(data for kind, data in heard if kind == "version")["version"] >= 2
    deaf.close()
    assert operator.read()["version"] == 40


def test_a_body_without_an_end_is_cut_and_the_connection_closed(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    head = (
        f"PATCH {CONFIG} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {replica.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", replica.port), timeout=20) as connection:
        connection.sendall(head.encode())
        sent = 0
        answer = b""
        try:
            while sent < 64 << 20 and not answer:
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
                connection.settimeout(0.001)
                try:
                    answer = connection.recv(4096)
                except TimeoutError:
                    connection.settimeout(20)
        except OSError:  # closed while we were sending
            connection.settimeout(5)
    assert sent < 16 << 20
    assert answer.startswith(b"HTTP/1.1 413") or not answer
    assert replica.operator().client.get("/v1/scopes").status_code == 200


def test_tls_is_served_with_a_certificate(tmp_path: Path, start: Start) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key, chain, trusted = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "ca.pem"
    certificate.private_key_pem.write_to_path(key)
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    authority.cert_pem.write_to_path(trusted)
    options = ("--ssl-keyfile", str(key), "--ssl-certfile", str(chain))
    replica = start(sqlite(tmp_path), options=options)
    operator = replica.operator(verify=ssl.create_default_context(cafile=str(trusted)))
    answer = operator.client.post("/v1/session", json={"token": replica.token})
    assert "; Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "server" not in answer.headers


def test_SW10_a_service_that_stops_lets_its_listeners_go(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    etag = operator.change(0, a=True).headers["etag"]
    with ThreadPoolExecutor(1) as pool, operator.client.stream("GET", f"{CONFIG}/events") as response:
        next(events(response))
        waiting = pool.submit(operator.client.get, f"{CONFIG}?wait=30", headers={"If-None-Match": etag})
        time.sleep(0.2)
        began = time.monotonic()
        assert replica.stop() in ENDED
        assert time.monotonic() - began < 10.0
        assert waiting.exception(10) is not None or waiting.result().status_code in (304, 500, 503)


def test_a_provider_made_by_others_reads_switches_by_ofrep(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    sizes = {"variants": {"small": 20, "large": 100}, "default": "small", "split": {"large": 50}}
    theme = {"variants": {"dark": {"ink": "white"}, "light": {"ink": "black"}}, "default": "dark"}
    answer = operator.change(0, recommendations=True, page_size=sizes, theme=theme, greeting={
        "variants": {"short": "hi"}, "default": "short"})  # fmt: skip
    assert answer.status_code == 200, answer.text
    provider = OFREPProvider(
        f"{replica.url}{CONFIG}", headers_factory=lambda: {"Authorization": f"Bearer {replica.token}"}
    )
    api.set_provider(provider, domain="switches")
    client = api.get_client(domain="switches")
    assert client.get_boolean_value("recommendations", False) is True
    customer = EvaluationContext("customer-7")
    found = client.get_integer_details("page_size", 1, customer)
    assert found.value == (100 if bucket_of("page_size", "customer-7") < 50_000 else 20)
    assert (found.reason, found.flag_metadata["version"]) == (Reason.SPLIT, 1)
    assert client.get_string_value("greeting", "?") == "hi"
    assert client.get_object_value("theme", {}) == {"ink": "white"}
    missing = client.get_boolean_details("nowhere", True)
    assert (missing.value, missing.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    wrong = client.get_string_details("page_size", "?")
    assert (wrong.value, wrong.error_code) == ("?", ErrorCode.TYPE_MISMATCH)
    operator.change(1, recommendations=False)
    details = client.get_boolean_details("recommendations", True)
    assert (details.value, details.reason) == (False, Reason.DISABLED)
    provider.session.close()
    api.clear_providers()


def test_an_ofrep_stream_tells_of_each_change(tmp_path: Path, start: Start) -> None:
    replica = start(sqlite(tmp_path))
    operator = replica.operator()
    operator.change(0, a=True)
    bulk = operator.client.post(f"{CONFIG}/ofrep/v1/evaluate/flags", json={})
    (stream,) = bulk.json()["eventStreams"]
    with httpx.Client(timeout=15.0) as nobody, nobody.stream("GET", stream["url"]) as response:
        heard = (data for kind, data in events(response) if kind == "message")
        first = next(heard)
        operator.change(1, a=False)
        second = next(heard)
    assert first["type"] == second["type"] == "refetchEvaluation"
    assert second["etag"] != first["etag"]
    again = operator.client.post(
        f"{CONFIG}/ofrep/v1/evaluate/flags", json={}, params={"flagConfigEtag": second["etag"]},
        headers={"If-None-Match": bulk.headers["etag"]},
    )  # fmt: skip
    assert (again.status_code, again.json()["flags"][0]["value"]) == (200, False)
