"""A real web server on 127.0.0.1 that answers as it is told, and three clients with one face."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import requests

from backstay.resilience.frameworks.httpx import AsyncTransport, Transport
from backstay.resilience.frameworks.requests import Adapter


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] = (b"ok",)
    breaks: bool = False  # hang up before the body is whole
    waits: float = 0.0


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Site:
    """Answers in the order of `answers`, then 200; `seen` are the requests, `open` the connections not ended."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.seen: list[Seen] = []
        self.release = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else b""
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b"".join(self._chunks())
                site.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = site.answers.popleft() if site.answers else Answer()
                if answer.waits:
                    site.release.wait(answer.waits)
                self.send_response_only(answer.status)  # without a Date of its own
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for chunk in answer.chunks:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
                if answer.breaks:
                    self.close_connection = True
                    return
                self.wfile.write(b"0\r\n\r\n")

            def _chunks(self) -> Iterator[bytes]:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are meant
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


Stream = Callable[[], "bytes | None"]


class Blocking:
    """An httpx client."""

    errors: tuple[type[Exception], ...] = (httpx.HTTPError,)

    def __init__(self, **options: Any) -> None:
        self.client = httpx.Client(transport=Transport(**options), timeout=5)

    def send(self, method: str, url: str, **more: Any) -> tuple[int, bytes]:
        answer = self.client.request(method, url, **more)
        return answer.status_code, answer.content

    @contextmanager
    def stream(self, url: str) -> Iterator[Stream]:
        with self.client.stream("GET", url) as answer:
            items = answer.iter_raw()
            yield lambda: next(items, None)

    def upload(self, url: str, parts: Iterator[bytes]) -> int:
        return self.client.put(url, content=parts).status_code

    def close(self) -> None:
        self.client.close()


class Async:
    """An httpx client on a loop of its own."""

    errors: tuple[type[Exception], ...] = (httpx.HTTPError,)

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = httpx.AsyncClient(transport=AsyncTransport(**options), timeout=5)

    def run(self, job: Any) -> Any:
        return self.loop.run_until_complete(job)

    def send(self, method: str, url: str, **more: Any) -> tuple[int, bytes]:
        answer = self.run(self.client.request(method, url, **more))
        return answer.status_code, answer.content

    @contextmanager
    def stream(self, url: str) -> Iterator[Stream]:
        opened = self.client.stream("GET", url)
        answer = self.run(opened.__aenter__())
        items = answer.aiter_raw()
        try:
            yield lambda: self.run(anext(items, None))
        finally:
            self.run(items.aclose())
            self.run(opened.__aexit__(None, None, None))

    def upload(self, url: str, parts: Iterator[bytes]) -> int:
        async def produced() -> Any:
            for part in parts:
                yield part

        return int(self.run(self.client.put(url, content=produced())).status_code)

    def close(self) -> None:
        self.run(self.client.aclose())
        self.loop.close()


class Session:
    """A requests session."""

    errors: tuple[type[Exception], ...] = (requests.RequestException,)

    def __init__(self, **options: Any) -> None:
        self.client = requests.Session()
        self.client.mount("http://", Adapter(**options))

    def send(self, method: str, url: str, *, content: bytes | None = None, **more: Any) -> tuple[int, bytes]:
        answer = self.client.request(method, url, data=content, timeout=5, **more)
        return answer.status_code, answer.content

    @contextmanager
    def stream(self, url: str) -> Iterator[Stream]:
        with self.client.get(url, stream=True, timeout=5) as answer:
            items = answer.iter_content(None)
            yield lambda: next(items, None)

    def upload(self, url: str, parts: Iterator[bytes]) -> int:
        return self.client.put(url, data=parts, timeout=5).status_code

    def close(self) -> None:
        self.client.close()


CLIENTS: dict[str, type[Blocking] | type[Async] | type[Session]] = {
    "httpx": Blocking,
    "httpx.async": Async,
    "requests": Session,
}
