"""One session with an ensemble: its beginning, its doubts and its end.

Theory of operation. Everything that is held lives as long as the session, and the session as long as the ensemble
hears of it. So what matters is to know *when the ensemble last heard*, and to stop before it may give up:

* The ensemble keeps a silent session for the negotiated time. A server tells the leader only every half tick
  which sessions it heard from, and may be lost with the latest; a session has at least two ticks. A client of ours
  speaks at least every third of what it promises. So `SHARE`, three quarters of the negotiated time, is promised
  from the moment before a request left, and no more (C4): the rest covers what a lost server took with it.
* A client that is cut off is told nothing by kazoo until it is connected again. The keeper's own clock ends its
  leases (Z6).
* A server that is cut off from the leader answers reads from its memory for a while. So whatever proves a session
  is asked behind a `sync`, which only the leader answers, and it answers none for a session that it gave up.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

from backstay.clock import monotonic
from backstay.errors import Misuse
from backstay.locks.backend import Watcher
from backstay.runtime import Runtime

from .answers import unreached
from .client import Client, new_client
from .settings import Settings
from .wire import Wire

__all__ = ["SHARE", "Session"]

logger = logging.getLogger("backstay.locks")

SHARE = 0.75
PARTING = 2.0  # s that closing waits for the client's threads
LOOK = 0.5  # s between two looks at a client that does not connect

_of_parents: list[Client] = []  # never collected: that would close sockets noisily which the parent uses


class Session:
    """A kazoo client, ours or the user's.

    Args:
        runtime: of the make that waits.
        wire: how that make waits.
        settings: where the ensemble is.
        changed: called whenever the connection came, went or ended, from the client's thread; returns at once.
    """

    def __init__(self, runtime: Runtime, wire: Wire, settings: Settings, changed: Callable[[], None]) -> None:
        self._runtime, self._wire, self._settings, self._changed = runtime, wire, settings, changed
        self._watcher: Watcher | None = None
        self._closed = False
        self._forked = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._mutex = threading.Lock()
        self._live = self._runtime.signal()
        self._client: Client | None = None
        self._was_live = False
        self._listener: Callable[[str], bool | None] | None = None
        self._finalizer: weakref.finalize[..., Session] | None = None
        self._id = self._last = 0  # of the session now, and of the latest one that did not end
        self._negotiated: float | None = None

    @property
    def promised(self) -> float:
        """Seconds that a grant is good for after the latest sign of life."""
        return SHARE * (self._settings.session if self._negotiated is None else self._negotiated)

    @property
    def client(self) -> Client:
        """The client; there is one once `live` was asked."""
        if self._client is None:
            raise Misuse(f"{self._settings.label}: the session was not begun")
        return self._client

    @property
    def id(self) -> int:
        """The current session, 0 while there is none that writes."""
        return self._id

    def attend(self, watcher: Watcher) -> None:
        """Tell `watcher` what becomes of the session."""
        self._watcher = watcher

    async def live(self, timeout: float) -> int:
        """Wait until there is a session that writes, and return its number.

        Raises:
            Unavailable: there was none in time.
            Misuse: there never will be: the credentials are refused, or this was closed.
        """
        if self._id and self._negotiated is not None:
            return self._id
        label = self._settings.label
        if self._closed:
            raise Misuse(f"the locks at {label} were closed; connect again")
        if self._forked and self._settings.client is not None:
            raise Misuse(f"{label}: this KazooClient belongs to the parent process; connect anew in the child")
        until = monotonic() + timeout
        self._begin()
        while True:
            self._live.clear()
            if self._id and self._negotiated is not None:
                return self._id
            client = self.client
            if client.client_state == "AUTH_FAILED":
                raise Misuse(f"{label} refused the credentials")
            if client.client_state == "CLOSED" and self._was_live:
                raise unreached(label, "its client was stopped")
            left = until - monotonic()
            if left <= 0:
                raise unreached(label, f"no session after {timeout:.3g} s ({client.client_state.lower()})")
            if self._id and self._settings.client is not None:
                await self._learn_timeout(left)
            else:
                await self._live.wait(min(left, LOOK))

    def _begin(self) -> None:
        with self._mutex:
            if self._client is not None:
                return
            settings = self._settings
            ours = settings.client is None
            client = _made(settings, weakref.WeakMethod(self._negotiates)) if ours else settings.client
            assert client is not None
            self._client = client
            self._listener = _relayed(weakref.WeakMethod(self._heard), client)
            client.add_listener(self._listener)
            if client.client_state == "CONNECTED":
                self._heard("CONNECTED")
            elif ours or client.client_state == "CLOSED":
                client.start_async()
            if ours:
                self._finalizer = weakref.finalize(self, _stop, client)
                self._finalizer.atexit = False

    async def _learn_timeout(self, timeout: float) -> None:
        """Ask what the servers make of the wish of a client that was started elsewhere: kazoo does not keep it."""
        settings = self._settings
        asked = Settings(
            hosts=settings.hosts, chroot="", session=settings.session, patience=settings.patience,
            label=settings.label, tls=settings.tls,
        )  # fmt: skip
        probe = Session(self._runtime, self._wire, asked, lambda: None)
        try:
            await probe.live(timeout)
            self._negotiated = probe._negotiated
        finally:
            await probe.close()

    # -- from the client's threads

    def _negotiates(self, seconds: float) -> None:
        self._negotiated = seconds
        self._live.set()

    def _heard(self, state: str) -> None:
        """Note what kazoo says of the connection: CONNECTED, SUSPENDED or LOST."""
        client, watcher = self._client, self._watcher
        if client is None:
            return
        before, tell = self._id, None
        if state == "CONNECTED" and client.client_state == "CONNECTED" and client.client_id is not None:
            self._was_live = True
            number = client.client_id[0]
            last, self._last = self._last, number
            self._id = number
            if watcher is not None and last:
                tell = watcher.settled if last == number else watcher.ended
        else:
            self._id = 0
            if state == "LOST":
                self._last = 0
                tell = watcher.ended if watcher is not None else None
            elif before and watcher is not None:
                tell = watcher.doubted
        if tell is not None:
            self._wire.relay(tell)
        self._live.set()
        self._changed()

    # -- the end

    async def close(self) -> None:
        """End the session, where it is ours; leave the user's as it is."""
        self._closed = True
        client, self._client, self._id = self._client, None, 0
        if client is None:
            return
        if self._listener is not None:
            client.remove_listener(self._listener)
        if self._finalizer is not None:
            self._finalizer.detach()
            await self._wire.aside(lambda: _stop_within(client, PARTING))
        self._live.set()

    def forked(self) -> None:
        """Drop what is the parent's, without a word to the ensemble (O5)."""
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._client is not None:
            _of_parents.append(self._client)
            if self._settings.client is None:  # the copies of its threads do not run here; their queues may be locked
                atexit.unregister(self._client.handler.stop)
        self._forked = True
        self._begin_anew()


def _made(settings: Settings, negotiates: weakref.WeakMethod[Callable[[float], None]]) -> Client:
    """Return a client of ours that neither retries commands nor waits long before it connects again."""
    options: dict[str, Any] = {}
    if settings.auth is not None:
        from kazoo.security import CREATOR_ALL_ACL

        options = {"auth_data": [("digest", settings.auth)], "default_acl": CREATOR_ALL_ACL}
    client = new_client(
        hosts=settings.hosts,
        timeout=settings.session,
        command_retry={"max_tries": 0},
        connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 1.0},
        **settings.tls,
        **options,
    )
    # kazoo neither keeps nor tells what the servers made of the timeout; it is the base of every promise.
    connection: Any = client
    connection = connection._connection
    connect = connection._connect

    def noting(*where: Any) -> Any:
        limits = connect(*where)
        told = negotiates()
        if told is not None:
            told(limits[0] * 1.5 / 1000.0)  # the read timeout is two thirds of it
        return limits

    connection._connect = noting
    return client


def _relayed(heard: weakref.WeakMethod[Callable[[str], None]], client: Client) -> Callable[[str], bool | None]:
    """Return a listener that keeps nobody alive and takes itself off when nobody is left (S6)."""

    def listener(state: str) -> bool | None:
        told = heard()
        if told is None:
            return True
        told(state)
        return None

    return listener


def _stop(client: Client) -> None:
    """Stop a client that was dropped without being closed; its threads must not be waited for here."""
    with contextlib.suppress(RuntimeError):  # too late in the life of the interpreter, and then it ends anyway
        threading.Thread(target=_stop_now, args=(client,), name="backstay-zookeeper-stop", daemon=True).start()


def _stop_now(client: Client) -> None:
    try:
        client.stop()
        client.close()
    except Exception as error:
        logger.warning("a ZooKeeper client could not be stopped: %s", error)


def _stop_within(client: Client, seconds: float) -> None:
    """Stop a client; one that is in the middle of connecting to a silent host is left to do so in its own time."""
    thread = threading.Thread(target=_stop_now, args=(client,), name="backstay-zookeeper-stop", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter ends and starts no thread any more
        _stop_now(client)
        return
    thread.join(seconds)
