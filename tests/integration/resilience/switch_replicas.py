"""Replicas of the switch service as processes, started by the command that operators use."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

SCOPE = "shop/production"
CONFIG = f"/v1/config/{SCOPE}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Replica:
    """One process; `token` is what it printed, if this was the first start with its database."""

    def __init__(self, store: str, *, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        self.store = store
        self.port = port or free_port()
        scheme = "https" if "--ssl-certfile" in options else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        command = [sys.executable, "-c", "from backstay.cli import main; main()", "switches", "serve"]
        command += ["--store", store, "--port", str(self.port), "--log-level", "warning", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.output: list[str] = []
        self.token = ""
        self._operators: list[Operator] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            found = re.search(r"bst_\S+", line)
            self.token = found[0] if found else self.token
            if line.startswith("serving on"):
                break
        self._rest = threading.Thread(target=self._drain, daemon=True)
        self._rest.start()
        end = time.monotonic() + 20
        try:
            while not self._answers():
                assert time.monotonic() < end, "".join(self.output)
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            assert self.process.poll() is None, "".join(self.output)
            return False

    def _drain(self) -> None:
        assert self.process.stdout is not None
        self.output.extend(self.process.stdout)

    def operator(self, token: str = "", **options: Any) -> Operator:
        """Somebody with this token here; with the first one where none is given."""
        self._operators.append(Operator(self.url, token or self.token, **options))
        return self._operators[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._rest.join(10)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.terminate()
        code = self.process.wait(15)
        self._rest.join(10)
        return code

    def close(self) -> None:
        for operator in self._operators:
            operator.client.close()
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Operator:
    """Somebody with a token at one replica."""

    def __init__(self, url: str, token: str, **options: Any) -> None:
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=15.0, **options)

    def change(self, base: int, **switches: Any) -> httpx.Response:
        changes = [{"section": "switches", "name": name, "value": value} for name, value in switches.items()]
        return self.client.patch(CONFIG, json={"base": base, "reason": "test", "changes": changes})

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(CONFIG).json()
        return found


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream: kind and data."""
    kind = ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
