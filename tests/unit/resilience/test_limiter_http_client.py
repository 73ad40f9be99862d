"""Who a client is (P12), and limits in memory under several workers (P11)."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, strategies as st

from backstay.errors import Misuse
from backstay.resilience.rate_limiting import workers
from backstay.resilience.rate_limiting.client_identity import UNIX, client_address
from backstay.resilience.rate_limiting.workers import expected_workers, warn_of_workers


def environ(peer: str, forwarded: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": peer}
    return made if forwarded is None else {**made, "HTTP_X_FORWARDED_FOR": forwarded}


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    client = None if peer is None else (peer, 4711)
    fields = [(b"host", b"shop"), *((b"x-forwarded-for", each.encode()) for each in forwarded)]
    return {"type": "http", "client": client, "headers": fields}


@pytest.mark.parametrize(
    ("hops", "peer", "forwarded", "client"),
    [
        (0, "192.0.2.1", "203.0.113.9", "192.0.2.1"),  # the header is nobody's word that we trust
        (1, "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),  # the left one is made up
        (2, "10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (2, "10.0.0.1", "203.0.113.9", "10.0.0.1"),  # passed one proxy too few
        (1, "10.0.0.1", "", "10.0.0.1"),
        (1, "10.0.0.1", "1.1.1.1, unknown", "10.0.0.1"),
        (1, "10.0.0.1", "203.0.113.9:5678", "203.0.113.9"),
        (1, "10.0.0.1", "[2001:db8::7]:5678", "2001:db8::/64"),
        (1, "10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1", "fe80::1%eth0", "fe80::/64"),
        (0, "2001:DB8:0:1:aaaa::7", "", "2001:db8:0:1::/64"),
        (0, "::ffff:192.0.2.1", "", "192.0.2.1"),
    ],
)
def test_P12_the_client_is_counted_from_the_right(hops: int, peer: str, forwarded: str, client: str) -> None:
    key = client_address(trusted_hops=hops)
    assert key(environ(peer, forwarded)) == client
    assert key(scope(peer, *([forwarded] if forwarded else []))) == client


def test_P12_fields_of_one_name_are_one_list() -> None:
    assert client_address(trusted_hops=2)(scope("10.0.0.1", "1.1.1.1", "203.0.113.9", "10.0.0.2")) == "203.0.113.9"


@given(st.lists(st.text("0123456789abcdef:.,[]% ", max_size=20), max_size=6), st.integers(1, 3))
def test_P12_whatever_a_client_writes_its_key_is_what_our_proxies_saw(made_up: list[str], hops: int) -> None:
    """The client's own entries stand at the left; each of our proxies appended one at the right."""
    ours = ["203.0.113.9", "10.0.0.3", "10.0.0.2"][:hops]
    key = client_address(trusted_hops=hops)
    assert key(environ("10.0.0.1", ",".join([*made_up, *ours]))) == "203.0.113.9"


def test_P12_a_unix_socket_has_no_peer() -> None:
    for request in (environ(""), scope(None)):
        assert client_address()(request) == UNIX
        assert client_address(trusted_hops=1)(request) == UNIX
    assert client_address(trusted_hops=1)(scope(None, "203.0.113.9")) == "203.0.113.9"
    behind = client_address(trusted_hops=1, proxies=["10.0.0.0/8"])
    assert behind(scope(None, "203.0.113.9")) == "203.0.113.9"


def test_P12_only_our_proxies_are_listened_to_where_they_are_named() -> None:
    key = client_address(trusted_hops=1, proxies=["10.0.0.0/8", "2001:db8:ffff::/48"])
    assert key(environ("10.1.2.3", "203.0.113.9")) == "203.0.113.9"
    assert key(environ("2001:db8:ffff::1", "203.0.113.9")) == "203.0.113.9"
    assert key(environ("198.51.100.1", "203.0.113.9")) == "198.51.100.1"


def test_P12_an_ipv6_client_is_its_network() -> None:
    assert client_address(ipv6_prefix=128)(environ("2001:db8::7")) == "2001:db8::7"
    assert client_address(ipv6_prefix=48)(environ("2001:db8:1:2::7")) == "2001:db8:1::/48"


def test_P12_requests_of_frameworks() -> None:
    key = client_address(trusted_hops=1)
    assert key(SimpleNamespace(scope=scope("10.0.0.1", "203.0.113.9"))) == "203.0.113.9"
    app = Flask("shop")
    sent = {"X-Forwarded-For": "1.1.1.1, 203.0.113.9"}
    with app.test_request_context("/", headers=sent, environ_base={"REMOTE_ADDR": "10.0.0.1"}):
        assert key() == "203.0.113.9"  # as Flask-Limiter calls its key function
    with pytest.raises(Misuse, match="ASGI scope or a request, got str"):
        key("203.0.113.9")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"trusted_hops": -1}, "0 to 32"),
        ({"trusted_hops": True}, "0 to 32"),
        ({"ipv6_prefix": 0}, "1 to 128"),
        ({"trusted_hops": 1, "proxies": ["10.0.0.1/8"]}, "host bits"),
        ({"trusted_hops": 1, "proxies": "10.0.0.0/8"}, "list of networks"),
        ({"proxies": ["10.0.0.0/8"]}, "trusted_hops is 0"),
    ],
)
def test_P12_bad_input_is_refused_when_it_is_configured(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(Misuse, match=text):
        client_address(**wrong)


@pytest.mark.parametrize(
    ("argv", "environment", "expected"),
    [
        (["/usr/bin/gunicorn", "-w", "4", "shop:app"], {}, 4),
        (["gunicorn", "--workers=3", "shop:app"], {}, 3),
        (["gunicorn", "-w5", "shop:app"], {}, 5),
        (["gunicorn", "shop:app"], {"GUNICORN_CMD_ARGS": "--bind=:80 --workers 6"}, 6),
        (["gunicorn", "-w", "1", "shop:app"], {"WEB_CONCURRENCY": "8"}, 1),
        (["/lib/uvicorn/__main__.py", "shop:app", "--workers", "2"], {}, 2),
        (["uvicorn", "shop:app"], {"WEB_CONCURRENCY": "2"}, 2),
        (["uvicorn", "shop:app"], {}, 1),
        (["uvicorn", "shop:app"], {"WEB_CONCURRENCY": "many"}, 1),
        (["report.py", "-w", "4"], {}, 1),
        ([], {}, 1),
    ],
)
def test_P11_workers_are_seen(argv: list[str], environment: dict[str, str], expected: int) -> None:
    assert expected_workers(argv, environment) == expected


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = workers._Watch()
    monkeypatch.setattr(workers, "_watch", made)
    monkeypatch.setattr("sys.argv", ["gunicorn", "shop:app"])
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return made


def test_P11_several_workers_are_warned_of_once(
    watch: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_workers("purchase")
    assert not caplog.records
    monkeypatch.setitem(os.environ, "WEB_CONCURRENCY", "4")
    warn_of_workers("login")
    warn_of_workers("search")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "'purchase' is in memory, and 4 workers are configured" in record.getMessage()
    assert "redis://" in record.getMessage()


def test_P11_forks_of_a_process_with_limits_are_workers(watch: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        watch.forked()
    assert not caplog.records  # nothing that could be shared
    warn_of_workers("purchase")
    watch.forked()
    assert not caplog.records  # a helper process
    watch.forked()
    watch.forked()
    [record] = caplog.records
    assert "forked twice" in record.getMessage()
