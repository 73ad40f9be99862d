"""Server-sent events to one listener, through the ASGI interface."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Message

from backstay.resilience.switch_service import stream as streams
from backstay.resilience.switch_service.board import Board
from backstay.resilience.switch_service.routes.config import cursor_of
from backstay.resilience.switch_service.routes.events import told
from backstay.resilience.switch_service.stream import EventStream
from unit.resilience.switch_service.desk import SCOPE, Desk


class Wire:
    """The two ends of a connection, which the test holds."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.stuck = False

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.put_nowait(message)

    async def next(self) -> tuple[str, str, Any]:
        """The next event's id, kind and data."""
        body = (await asyncio.wait_for(self.sent.get(), 5)).get("body", b"").decode()
        lines = dict(line.partition(": ")[::2] for line in body.splitlines() if line and not line.startswith(":"))
        return lines.get("id", ""), lines["event"], json.loads(lines["data"])


def start(board: Board, wire: Wire, **options: Any) -> asyncio.Task[None]:
    async def still() -> bool:
        return True

    given = {"known": None, "heartbeat": 5.0, "still": still, **options}
    stream = EventStream(board, SCOPE, told, **given)
    return asyncio.create_task(stream({"type": "http"}, wire.receive, wire.send))


def board_of(desk: Desk, versions: int) -> Board:
    for version in range(versions):
        desk.change(version, a=version % 2 == 0)
    board = Board()
    post(desk, board)
    return board


def post(desk: Desk, board: Board) -> None:
    found = desk.store.documents.current(SCOPE)
    assert found is not None
    board.post(found)


def test_SW10_a_stream_begins_with_the_present_version_and_goes_on_with_each_later_one(desk: Desk) -> None:
    async def main() -> None:
        board, wire = board_of(desk, 2), Wire()
        task = start(board, wire)
        head = await wire.sent.get()
        assert dict(head["headers"])[b"content-type"].startswith(b"text/event-stream")
        number, kind, data = await wire.next()
        assert (kind, data["version"], number) == ("version", 2, f"{desk.now_ms}.2")
        assert data["checksum"].startswith("sha256:")
        await asyncio.to_thread(desk.change, 2, a=True)
        post(desk, board)
        assert (await wire.next())[2]["version"] == 3
        wire.gone.set()
        await asyncio.wait_for(task, 5)
        assert board._listeners == {}

    asyncio.run(main())


def test_SW4_a_client_that_knows_the_present_version_gets_signs_of_life_only(desk: Desk) -> None:
    async def main() -> None:
        board, wire = board_of(desk, 2), Wire()
        task = start(board, wire, known=cursor_of(f"{desk.now_ms}.2"), heartbeat=0.01)
        await wire.sent.get()
        assert [(await wire.next())[1] for _ in range(3)] == ["heartbeat"] * 3
        wire.gone.set()
        await asyncio.wait_for(task, 5)

    asyncio.run(main())


def test_a_stream_ends_when_the_token_is_good_no_longer(desk: Desk) -> None:
    async def main() -> None:
        board, wire, good = board_of(desk, 1), Wire(), [True, False]

        async def still() -> bool:
            return good.pop(0)

        await asyncio.wait_for(start(board, wire, heartbeat=0.01, still=still), 5)
        messages = [wire.sent.get_nowait() for _ in range(wire.sent.qsize())]
        assert not good
        assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    asyncio.run(main())


def test_SW12_a_client_that_reads_nothing_is_cut(desk: Desk, monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "SEND_WITHIN", 0.02)

    async def main() -> None:
        board, wire = board_of(desk, 1), Wire()
        task = start(board, wire)
        await wire.sent.get()
        wire.stuck = True
        await asyncio.to_thread(desk.change, 1, a=False)
        post(desk, board)
        await asyncio.wait_for(task, 5)
        assert board._listeners == {}

    asyncio.run(main())


def test_streams_end_when_the_service_stops(desk: Desk) -> None:
    async def main() -> None:
        board, wire = board_of(desk, 1), Wire()
        task = start(board, wire)
        await wire.sent.get()
        await wire.next()
        board.close()
        await asyncio.wait_for(task, 5)

    asyncio.run(main())


def test_only_ids_of_ours_are_taken_for_cursors() -> None:
    assert cursor_of('"17.42-0123456789abcdef"') == (17, 42)
    assert cursor_of("17.42") == (17, 42)
    for other in ("", "17", "17.x", '"abc"', "17.42.9", "-1.2", "1" * 17 + ".1", "W/x", "١.٢"):
        assert cursor_of(other) is None
