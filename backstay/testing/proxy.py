"""A TCP proxy that loses, delays and cuts what a real server says, to see what a client makes of it.

The network's worst trick is the lost reply: the server did the work and the caller cannot know. `drop_replies` plays it
against a real server, which no stand-in for the server can do honestly:

    with FaultProxy("127.0.0.1", 6379) as proxy:
        client = redis.Redis.from_url(proxy.url("redis://127.0.0.1:6379/0"), retry=Retry(NoBackoff(), 0))
        proxy.drop_replies(matching=b"INCR", times=1)
        client.incr("n")            # ConnectionError, and the server counted 1

It knows nothing of the protocols that pass. What it sees is chunks: what one read of a socket brings. For a client that
asks and waits, a chunk is a request or a reply; where requests are pipelined or replies are large, a reply may be
several chunks, and the first one counts. After a lost chunk the stream has a hole, so such a connection is never used
again.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from backstay.errors import Misuse

from ._link import Counts, Link, Loss, State

__all__ = ["Counts", "FaultProxy"]

T = TypeVar("T")

_ANSWER_LIMIT = 10.0
"""Seconds that the proxy's own thread gets to throw a switch."""


class FaultProxy:
    """A proxy on 127.0.0.1 in front of one server, with a switch for each way a network can fail.

    A switch is in force when its call returns. Switches add up (a delay and a loss) until `heal`. All methods may be
    called from any thread. It costs about 0.15 ms a round trip.

    Args:
        host: where the server is.
        port: the server's port.
        listen: the port to listen on; 0 takes a free one, see `port`.

    Raises:
        OSError: the port to listen on is taken.
    """

    def __init__(self, host: str, port: int, *, listen: int = 0) -> None:
        if not 0 < port < 65536:
            raise Misuse(f"the server's port must be from 1 to 65535, got {port}")
        self._state = State(upstream=(host, port))
        self._listen = listen
        self._listener: socket.socket | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._one_at_a_time = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backstay-fault-proxy", daemon=True)
        self._thread.start()
        try:
            self._do(self._open())
        except BaseException:
            self._stop_loop()
            raise

    @property
    def host(self) -> str:
        """Where clients connect to."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port that clients connect to; it stays the same over `refuse` and `heal`."""
        return self._listen

    @property
    def counts(self) -> Counts:
        """What has passed and what was lost so far."""
        return self._do_now(lambda: replace(self._state.counts))

    def url(self, upstream_url: str) -> str:
        """The same URL with the proxy's address in place of the server's; user and password stay."""
        parts = urlsplit(upstream_url)
        if not parts.netloc:
            raise Misuse("a URL with a host is needed, such as redis://127.0.0.1:6379/0")
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{self.host}:{self.port}"))

    def delay(self, *, requests: float = 0.0, replies: float = 0.0) -> None:
        """Pass each chunk on after so many seconds. Chunks of one direction wait one after another."""
        if requests < 0 or replies < 0:
            raise Misuse(f"a delay must be >= 0 s, got requests={requests}, replies={replies}")
        self._switch(request_delay=requests, reply_delay=replies)

    def drop_replies(self, *, matching: bytes | None = None, times: int | None = None, cut: bool = True) -> None:
        """Deliver requests and swallow their answers: the work is done, the caller cannot know.

        Args:
            matching: lose only answers to requests that contain these bytes (a command's name, a key).
            times: lose so many and then no more; for ever without it.
            cut: reset the connection once an answer was lost, so that the client learns quickly that there will be
                none. Otherwise it gets silence and has to time out; the connection is reset at `heal`.
        """
        self._switch(lose_replies=Loss(matching=matching, left=_positive(times), cut=cut))

    def drop_requests(self, *, matching: bytes | None = None, times: int | None = None, cut: bool = True) -> None:
        """Swallow requests: the work is not done, and the caller cannot know that either. As `drop_replies`."""
        self._switch(lose_requests=Loss(matching=matching, left=_positive(times), cut=cut))

    def refuse(self) -> None:
        """Refuse new connections, as a host whose server is down. Open ones stay; `cut` ends those."""
        self._do(self._close_listener())

    def cut(self) -> int:
        """Reset every open connection (RST) and return how many there were. New ones are welcome."""
        return self._do_now(self._state.cut_all)

    def half_open(self) -> None:
        """Go silent: connections stay open and nothing passes in either direction, not even an end.

        As in a partition, what was sent meanwhile arrives after `heal`, on connections that lived so long.
        """
        self._do_now(self._state.open.clear)

    def heal(self) -> None:
        """Put every switch back. Connections with a hole in their stream are reset."""
        self._do(self._heal())

    def close(self) -> None:
        """Reset what is open and free the port. Closing twice is fine."""
        if self._thread.is_alive():
            self._do(self._shut())
            self._stop_loop()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        host, port = self._state.upstream
        return f"FaultProxy({self.host}:{self.port} -> {host}:{port})"

    # From here on: the proxy's own thread and how to reach it.

    def _do(self, job: Coroutine[Any, Any, T]) -> T:
        with self._one_at_a_time:
            if not self._thread.is_alive():
                job.close()
                raise Misuse("this proxy is closed; make another one")
            return asyncio.run_coroutine_threadsafe(job, self._loop).result(_ANSWER_LIMIT)

    def _do_now(self, step: Callable[[], T]) -> T:
        async def job() -> T:
            return step()

        return self._do(job())

    def _switch(self, **changes: Any) -> None:
        def change() -> None:
            self._state.faults = replace(self._state.faults, **changes)

        self._do_now(change)

    async def _open(self) -> None:
        # Neither asyncio's server nor sock_accept: both lose a connection that came in as they were told to stop.
        self._listener = socket.create_server((self.host, self._listen), backlog=128)
        self._listener.setblocking(False)
        self._listen = int(self._listener.getsockname()[1])
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the client has gone already, or we are out of descriptors; it is asked again
            return
        link = Link(self._state, connection)
        task = self._loop.create_task(link.carry())
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        task.add_done_callback(link.ended)

    async def _close_listener(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _heal(self) -> None:
        self._state.heal()
        if self._listener is None:
            await self._open()

    async def _shut(self) -> None:
        await self._close_listener()
        self._state.cut_all()
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)
        for _ in range(3):  # transports close their sockets in the loop's next turns
            await asyncio.sleep(0)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_LIMIT)
        self._loop.close()


def _positive(times: int | None) -> int | None:
    if times is not None and times < 1:
        raise Misuse(f"times must be >= 1, got {times}; leave it out to lose every one")
    return times
