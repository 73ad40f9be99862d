"""The services as real processes that can be killed with SIGKILL and started again on the same port."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

__all__ = ["Service", "free_port"]

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """One service of one shop; its output goes to `<name>.log` in the shop's data folder.

    It holds a pipe to its standard input open: when this process dies, even by SIGKILL, the service ends too.
    """

    def __init__(self, shop: str, name: str, folder: Path) -> None:
        self.name = name
        self.port = free_port()
        self.killed_at: list[float] = []
        self._shop = shop
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._changing = asyncio.Lock()

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it answers."""
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "examples.shop.serve", self._shop, self.name, str(self.port)),
                cwd=ROOT,
                env={**os.environ, "SHOP_DATA": str(self._folder.absolute()), "PYTHONUNBUFFERED": "1"},
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not await self._answers():
            if self._process.returncode is not None or time.monotonic() > deadline:
                tail = (self._folder / f"{self.name}.log").read_text()[-2000:]
                raise RuntimeError(f"{self._shop} {self.name} did not start:\n{tail}")
            await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill_and_restart(self, rest: float = 0.3) -> None:
        """SIGKILL, a moment of absence, and a fresh process on the same port."""
        async with self._changing:
            process = self._process
            assert process is not None
            process.kill()
            self.killed_at.append(time.monotonic())
            await process.wait()
            await asyncio.sleep(rest)
            await self.start()

    async def stop(self) -> None:
        """Ask it to end, and insist after ten seconds."""
        async with self._changing:
            process = self._process
            if process is None or process.returncode is not None:
                return
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
