"""The fault proxy between a real client and a real Redis: each switch does to the client what it says."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.errors import Misuse
from backstay.testing.proxy import FaultProxy
from backstay.url import parse


def client_of(url: str, *, timeout: float = 5.0) -> redis.Redis:
    """A client that never repeats a command by itself, or a lost reply would be paid for twice."""
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout, socket_connect_timeout=timeout, protocol=2
    )


@pytest.fixture
def direct(redis_url: str) -> Iterator[redis.Redis]:
    with client_of(redis_url) as client:
        yield client


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    address = parse(redis_url)
    assert address.host is not None
    assert address.port is not None
    with FaultProxy(address.host, address.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: FaultProxy, redis_url: str) -> Iterator[redis.Redis]:
    with client_of(proxy.url(redis_url)) as client:
        yield client


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < end, "not so after 5 s"
        time.sleep(0.005)


def test_without_a_fault_everything_passes(proxy: FaultProxy, through: redis.Redis, direct: redis.Redis) -> None:
    large = b"x" * 3_000_000
    through.set("large", large)
    assert through.get("large") == large
    assert direct.get("large") == large
    assert proxy.counts.connections == 1
    assert proxy.counts.lost_replies == proxy.counts.lost_requests == proxy.counts.cut == 0


def test_a_lost_reply_of_incr_leaves_1_on_the_server(
    proxy: FaultProxy, through: redis.Redis, direct: redis.Redis
) -> None:
    through.ping()
    proxy.drop_replies()
    with pytest.raises(redis.ConnectionError):
        through.incr("n")
    assert direct.get("n") == b"1"
    assert proxy.counts.lost_replies == 1


def test_a_lost_reply_without_a_cut_is_a_silence_that_the_client_must_time_out(
    proxy: FaultProxy, redis_url: str, direct: redis.Redis
) -> None:
    with client_of(proxy.url(redis_url), timeout=1.0) as through:
        through.ping()
        proxy.drop_replies(cut=False)
        with pytest.raises(redis.TimeoutError):
            through.incr("n")
        assert direct.get("n") == b"1"
        proxy.heal()
        assert through.incr("n") == 2


def test_a_lost_request_leaves_nothing_on_the_server(
    proxy: FaultProxy, through: redis.Redis, direct: redis.Redis
) -> None:
    through.ping()
    proxy.drop_requests()
    with pytest.raises(redis.ConnectionError):
        through.incr("n")
    assert direct.get("n") is None
    assert proxy.counts.lost_requests == 1


@pytest.mark.parametrize("switch", ["drop_replies", "drop_requests"])
def test_only_matching_commands_are_lost_and_only_so_often(
    proxy: FaultProxy, through: redis.Redis, direct: redis.Redis, switch: str
) -> None:
    getattr(proxy, switch)(matching=b"INCR", times=2)
    through.set("other", 1)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            through.incr("n")
        through.set("other", 2)
    served = 2 if switch == "drop_replies" else 0
    assert through.incr("n") == served + 1
    assert direct.get("n") == str(served + 1).encode()


def connect(proxy: FaultProxy, redis_url: str) -> socket.socket:
    """A bare connection that has chosen the test's own database."""
    raw = socket.create_connection((proxy.host, proxy.port), timeout=5)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.sendall(f"SELECT {parse(redis_url).path.lstrip('/')}\r\n".encode())
    assert raw.recv(100) == b"+OK\r\n"
    return raw


def test_a_match_is_found_across_two_chunks(proxy: FaultProxy, direct: redis.Redis, redis_url: str) -> None:
    command = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
    with connect(proxy, redis_url) as raw:
        proxy.drop_replies(matching=b"INCR")
        raw.sendall(command[:10])
        wait_until(lambda: proxy.counts.requests == 2)
        raw.sendall(command[10:])
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    assert direct.get("n") == b"1"


def test_delay_adds_to_each_direction(proxy: FaultProxy, through: redis.Redis) -> None:
    through.ping()
    proxy.delay(requests=0.05, replies=0.1)
    assert quickest_ping(through, 2) >= 0.15
    proxy.heal()
    assert quickest_ping(through, 50) < 0.1


def quickest_ping(client: redis.Redis, tries: int) -> float:
    """Seconds; the least of some tries, since a busy machine adds to any one of them."""
    seconds: list[float] = []
    for _ in range(tries):
        start = time.monotonic()
        client.ping()
        seconds.append(time.monotonic() - start)
    return min(seconds)


def test_refuse_turns_new_connections_away_and_leaves_open_ones(
    proxy: FaultProxy, through: redis.Redis, redis_url: str
) -> None:
    through.ping()
    port = proxy.port
    proxy.refuse()
    assert through.ping()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=5)
    proxy.heal()
    assert proxy.port == port
    with client_of(proxy.url(redis_url)) as another:
        assert another.ping()


def test_cut_resets_a_connection_in_mid_call(proxy: FaultProxy, through: redis.Redis) -> None:
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as raw:
        raw.sendall(b"BLPOP never 0\r\n")
        wait_until(lambda: proxy.counts.requests == 1)
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    assert through.ping()


def test_half_open_is_silence_and_what_was_sent_arrives_after_heal(
    proxy: FaultProxy, direct: redis.Redis, redis_url: str
) -> None:
    with connect(proxy, redis_url) as raw:
        raw.settimeout(0.3)
        proxy.half_open()
        raw.sendall(b"INCR n\r\n")
        with pytest.raises(TimeoutError):
            raw.recv(100)
        assert direct.get("n") is None
        proxy.heal()
        raw.settimeout(5)
        assert raw.recv(100) == b":1\r\n"
    assert direct.get("n") == b"1"


def test_an_unreachable_server_resets_the_client(proxy: FaultProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with FaultProxy("127.0.0.1", port) as nowhere:
        with pytest.raises(ConnectionResetError), socket.create_connection((nowhere.host, nowhere.port), 5) as raw:
            raw.recv(100)  # unless the reset was quicker than the connection
        assert nowhere.counts.unreachable == 1


def test_closing_frees_the_port_and_a_closed_proxy_says_so(redis_url: str) -> None:
    address = parse(redis_url)
    assert address.host is not None
    assert address.port is not None
    with FaultProxy(address.host, address.port) as proxy:
        port = proxy.port
        raw = socket.create_connection((proxy.host, port), timeout=5)
        raw.sendall(b"PING\r\n")
        assert raw.recv(100) == b"+PONG\r\n"
    with raw, pytest.raises(ConnectionResetError):
        raw.recv(100)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with pytest.raises(Misuse, match="closed"):
        proxy.cut()
    proxy.close()
    with FaultProxy(address.host, address.port, listen=port) as again:
        assert again.port == port


def test_the_url_keeps_user_password_path_and_query(proxy: FaultProxy) -> None:
    assert proxy.url("redis://me:s%40crt@db.example:6379/3?timeout=1") == (
        f"redis://me:s%40crt@127.0.0.1:{proxy.port}/3?timeout=1"
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda proxy: proxy.delay(replies=-1), "delay must be >= 0"),
        (lambda proxy: proxy.drop_replies(times=0), "times must be >= 1"),
        (lambda proxy: proxy.url("nowhere"), "URL with a host"),
        (lambda proxy: FaultProxy("127.0.0.1", 0), "from 1 to 65535"),
    ],
)
def test_bad_arguments_are_refused(proxy: FaultProxy, call: object, text: str) -> None:
    assert callable(call)
    with pytest.raises(Misuse, match=text):
        call(proxy)
