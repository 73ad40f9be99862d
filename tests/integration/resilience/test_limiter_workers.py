"""Limits in memory under real servers with several workers: the warning comes, and only then (P11)."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHOP = """
import sys

from backstay.resilience import RateLimiter

limiter = RateLimiter.connect(rate="2/second", name="purchase")
print("the shop is loaded", file=sys.stderr, flush=True)


def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]


async def serve(scope, receive, send):
    raise NotImplementedError
"""


def says(place: Path, command: list[str], until: str) -> str:
    """Return what a server writes until it writes `until`, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said, ends = b"", time.monotonic() + 20
    try:
        while until.encode() not in said and time.monotonic() < ends:
            if select.select([process.stderr], [], [], 0.5)[0]:
                data = os.read(process.stderr.fileno(), 65_536)
                if not data:
                    break
                said += data
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
    return said.decode()


@pytest.mark.parametrize(
    ("command", "configuration", "why"),
    [
        (["gunicorn", "-w", "2", "shop:app"], "", "2 workers are configured"),
        (["gunicorn", "shop:app"], "workers = 2\npreload_app = True\n", "forked twice"),
        (
            ["uvicorn", "shop:serve", "--workers", "2", "--port", "0", "--lifespan", "off"],
            "",
            "2 workers are configured",
        ),
    ],
    ids=["gunicorn", "gunicorn, configured in a file, preloaded", "uvicorn"],
)
def test_P11_real_workers_are_warned_of(tmp_path: Path, command: list[str], configuration: str, why: str) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:0'\n{configuration}")
    said = says(tmp_path, command, "is in memory")
    assert "rate limiter 'purchase' is in memory" in said
    assert why in said


def test_P11_a_single_worker_is_left_in_peace(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    said = says(tmp_path, ["gunicorn", "-w", "1", "-b", "127.0.0.1:0", "shop:app"], "the shop is loaded")
    assert "the shop is loaded" in said
    assert "is in memory" not in said
