"""A server in a container of ours, that can be killed, paused and started again."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from . import engine  # isort: skip  # sets what testcontainers reads at import
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import WaitStrategy
from testcontainers.core.waiting_utils import WaitStrategyTarget

from .parts import Part

STARTING_LIMIT = 60.0
"""Seconds a server gets to answer; a loaded machine needs a few."""

ASKING_LIMIT = 10.0
"""Seconds that the command which asks inside the container may take, before it is asked again."""


class Server:
    """A container of ours. It keeps its port and its data over `kill` and `start`."""

    def __init__(self, part: Part, container: DockerContainer, port: int) -> None:
        self.part = part
        self.host = "127.0.0.1"
        self.port = port
        self.url = part.url.format(port=port)
        self._container = container

    @property
    def id(self) -> str:
        """The container's id."""
        return self._container.get_container_id()

    @property
    def is_running(self) -> bool:
        """Whether it runs and is not paused, as Docker knows it."""
        self._raw.reload()
        return bool(self._raw.status == "running")

    def kill(self) -> None:
        """End the server with SIGKILL, as a power cut would. What it acknowledged is still there after `start`."""
        self._raw.kill(signal="KILL")
        self._raw.wait()

    def stop(self) -> None:
        """Ask the server to shut down and wait until it has; after 10 s it is killed."""
        self._raw.stop(timeout=10)

    def start(self) -> None:
        """Start it again after `kill` or `stop`, on the same port, and wait until it answers."""
        self._raw.start()
        UntilItServes(self.part, self.url).wait_until_ready(self._container)

    def pause(self) -> None:
        """Freeze the server: connections stay open, new ones are accepted by the kernel, nobody answers."""
        self._raw.pause()

    def unpause(self) -> None:
        """Let a paused server go on where it was."""
        self._raw.unpause()

    def run(self, *command: str) -> str:
        """Run a command inside the container and return what it printed; raise when it fails."""
        result = self._container.exec(list(command))
        output = result.output.decode(errors="replace")
        if result.exit_code != 0:
            raise RuntimeError(f"{command[0]} in the {self.part.name} server ended with {result.exit_code}: {output}")
        return output

    def logs(self) -> str:
        """What the server printed."""
        out, err = self._container.get_logs()
        return out.decode(errors="replace") + err.decode(errors="replace")

    def remove(self) -> None:
        """End and delete the container with its data. Removing twice is fine."""
        with contextlib.suppress(NotFound):
            self._container.stop(force=True, delete_volume=True)

    @property
    def _raw(self) -> Container:
        return self._container.get_wrapped_container()


class UntilItServes(WaitStrategy):
    """Wait until the server answers inside its container and then, through the published port, the driver.

    A TCP connection proves nothing: Docker's proxy accepts before the server listens. A server that has ended is
    reported at once, with its last words.
    """

    def __init__(self, part: Part, url: str) -> None:
        super().__init__()
        self._part = part
        self._url = url

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Return once it serves; raise RuntimeError if it ended, TimeoutError after STARTING_LIMIT."""
        end = time.monotonic() + STARTING_LIMIT
        raw = cast(Container, container.get_wrapped_container())
        self._poll_until(end, raw, lambda: self._says_ready(raw))
        self._poll_until(end, raw, lambda: self._part.connect(self._url))

    def _says_ready(self, raw: Container) -> None:
        # Detached, then asked for: an engine can lose the end of an attached command's output, and its reader waits
        # for ever.
        api = cast(Any, raw.client).api
        command = api.exec_create(raw.id, list(self._part.ready), stdout=False, stderr=False)["Id"]
        api.exec_start(command, detach=True)
        end = time.monotonic() + ASKING_LIMIT
        while (said := api.exec_inspect(command))["Running"] or said["ExitCode"] is None:
            if time.monotonic() > end:
                raise TimeoutError(f"{self._part.ready[0]} had not ended after {ASKING_LIMIT:g} s")
            time.sleep(0.02)
        if said["ExitCode"] != 0:
            raise ConnectionError(f"{self._part.ready[0]} ended with {said['ExitCode']}")

    def _poll_until(self, end: float, raw: Container, ask: Callable[[], None]) -> None:
        while True:
            try:
                return ask()
            except Exception as error:  # each driver has its own ways to say "not yet"
                raw.reload()
                if raw.status not in {"running", "created", "restarting"}:
                    raise RuntimeError(f"the {self._part.name} server ended while starting:\n{_tail(raw)}") from error
                if time.monotonic() > end:
                    raise TimeoutError(
                        f"no answer from the {self._part.name} server after {STARTING_LIMIT:g} s: {error}\n{_tail(raw)}"
                    ) from error
            time.sleep(0.05)


def _tail(raw: Container) -> str:
    return bytes(raw.logs(tail=30)).decode(errors="replace")


def start(part: Part, image: str, *, labels: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Server:
    """Start a container of `image` and return once the server in it answers."""

    def container(ports: Sequence[int]) -> DockerContainer:
        made = DockerContainer(image).with_kwargs(labels=dict(labels)).with_envs(**dict(environment or {}))
        publish(made, {part.port: ports[0]})
        return made.waiting_for(UntilItServes(part, part.url.format(port=ports[0])))

    started, ports = start_on_free_ports(1, container)
    return Server(part, started, ports[0])


def publish(container: DockerContainer, ports: Mapping[int, int]) -> None:
    """Publish ports (inside: outside) on 127.0.0.1 only."""
    # Its type knows only bare ports, which would be published to the whole network.
    container.ports = cast(Any, {f"{inside}/tcp": ("127.0.0.1", outside) for inside, outside in ports.items()})


def start_on_free_ports(
    count: int, make: Callable[[Sequence[int]], DockerContainer]
) -> tuple[DockerContainer, Sequence[int]]:
    """Start what `make` makes of so many free ports.

    The ports are chosen here: those that Docker chooses are others after a restart. Somebody may take one between the
    choice and the start; then others are tried.
    """
    for _ in range(10):
        ports = [free_port() for _ in range(count)]
        container = make(ports)
        try:
            container.start()
        except APIError as error:
            container.stop()
            if "port is already allocated" in str(error) or "address already in use" in str(error):
                continue
            raise
        except BaseException:
            container.stop()
            raise
        return container, ports
    raise RuntimeError(f"no {count} free ports on 127.0.0.1 after 10 tries")


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses now.

    It lies below the range for outgoing connections, or one of those could take it while the server is down.
    """
    low = 32768
    with contextlib.suppress(OSError, ValueError):
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100):
        port = random.randrange(min(15000, low - 1000), low)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port on 127.0.0.1 after 100 tries")


__all__ = ["Server", "UntilItServes", "engine", "free_port", "publish", "start", "start_on_free_ports"]
