"""The fault proxy in front of a bare TCP server of this process: what it passes on is whole, in order, and ends alike.

These need no container, so they also serve to prove that a broken proxy is noticed.
"""

from __future__ import annotations

import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from backstay.testing.proxy import FaultProxy


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, and after the client's end how much that was."""

    request: socket.socket
    server: Upstream

    def handle(self) -> None:
        total = 0
        try:
            while chunk := self.request.recv(65536):
                total += len(chunk)
                self.server.heard += chunk
                self.request.sendall(chunk)
            self.request.sendall(f"end after {total}".encode())
        except ConnectionError:
            self.server.resets += 1


class Upstream(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.heard = b""
        self.resets = 0


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", upstream.server_address[1]) as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def read_to_the_end(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < end, "not so after 5 s"
        time.sleep(0.002)


def test_many_connections_at_once_each_get_their_own_bytes_whole_and_in_order(proxy: FaultProxy) -> None:
    def talk(seed: int) -> bool:
        sent = random.Random(seed).randbytes(400_000)
        with connect(proxy) as connection:

            def send() -> None:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            received = read_to_the_end(connection)
            sender.join()
        return received == sent + f"end after {len(sent)}".encode()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(talk, range(16)))
    assert proxy.counts.connections == 16
    assert proxy.counts.cut == 0


def test_the_clients_end_reaches_the_server_while_its_answer_still_comes_back(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"abc")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_the_end(connection) == b"abcend after 3"


def test_a_lost_reply_was_heard_and_its_connection_is_reset(proxy: FaultProxy, upstream: Upstream) -> None:
    proxy.drop_replies(matching=b"lose me", times=1)
    with connect(proxy) as connection:
        connection.sendall(b"fine")
        assert connection.recv(100) == b"fine"
        connection.sendall(b"please lose me")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert upstream.heard == b"fineplease lose me"
    with connect(proxy) as connection:
        connection.sendall(b"lose me again")
        assert connection.recv(100) == b"lose me again"
    counts = proxy.counts
    assert (counts.requests, counts.lost_requests, counts.lost_replies, counts.cut) == (3, 0, 1, 1)


def test_a_lost_request_was_never_heard(proxy: FaultProxy, upstream: Upstream) -> None:
    proxy.drop_requests(times=1)
    with connect(proxy) as connection:
        connection.sendall(b"lost")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with connect(proxy) as connection:
        connection.sendall(b"second")
        assert connection.recv(100) == b"second"
    assert upstream.heard == b"second"


def test_a_connection_with_a_hole_carries_nothing_more_and_is_reset_by_heal(
    proxy: FaultProxy, upstream: Upstream
) -> None:
    proxy.drop_requests(times=1, cut=False)
    with connect(proxy) as holed, connect(proxy) as whole:
        holed.sendall(b"lost")
        wait_until(lambda: proxy.counts.lost_requests == 1)
        holed.sendall(b"after the hole")
        wait_until(lambda: proxy.counts.lost_requests == 2)
        whole.sendall(b"whole")
        assert whole.recv(100) == b"whole"
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            holed.recv(100)
        whole.sendall(b" still")
        assert whole.recv(100) == b" still"
    assert upstream.heard == b"whole still"


def test_cut_resets_both_sides(proxy: FaultProxy, upstream: Upstream) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"x")
        assert connection.recv(100) == b"x"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    wait_until(lambda: upstream.resets == 1)
    assert proxy.cut() == 0


def test_silence_holds_even_an_end_until_heal(proxy: FaultProxy, upstream: Upstream) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"a")
        assert connection.recv(100) == b"a"
        proxy.half_open()
        connection.sendall(b"b")
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        assert upstream.heard == b"a"
        connection.settimeout(5)
        proxy.heal()
        assert read_to_the_end(connection) == b"bend after 2"


def test_a_client_that_connects_into_the_silence_is_served_after_heal(proxy: FaultProxy) -> None:
    proxy.half_open()
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(5)
        proxy.heal()
        assert connection.recv(100) == b"hello"


def test_switches_may_be_thrown_from_many_threads_while_bytes_flow(proxy: FaultProxy) -> None:
    stop = threading.Event()

    def throw(seed: int) -> None:
        draw = random.Random(seed)
        while not stop.is_set():
            draw.choice(
                [proxy.cut, proxy.half_open, proxy.heal, proxy.refuse, proxy.drop_replies, proxy.drop_requests]
            )()

    def talk() -> int:
        whole = 0
        while not stop.is_set():
            try:
                with socket.create_connection((proxy.host, proxy.port), timeout=0.05) as connection:
                    connection.sendall(b"ping")
                    whole += connection.recv(100) == b"ping"
            except OSError:
                pass  # that is what the switches are for
        return whole

    with ThreadPoolExecutor(5) as pool:
        throwers = [pool.submit(throw, seed) for seed in range(2)]
        talkers = [pool.submit(talk) for _ in range(3)]
        time.sleep(0.7)
        stop.set()
        for thrower in throwers:
            thrower.result()
        for talker in talkers:
            talker.result()
    proxy.heal()
    with connect(proxy) as connection:
        connection.sendall(b"well")
        assert connection.recv(100) == b"well"
