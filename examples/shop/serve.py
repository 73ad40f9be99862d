"""Run one service: `python -m examples.shop.serve naive orders 8001`; it ends when its standard input closes."""

from __future__ import annotations

import importlib
import os
import sys
import threading

import uvicorn

__all__ = ["main"]


def end_with_parent() -> None:
    """Exit at once when whoever started us is gone, even by SIGKILL: the kernel then closes our standard input."""

    def watch() -> None:
        # os.read, not sys.stdin: a buffered reader's lock would trip the interpreter's shutdown.
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def main(shop: str, service: str, port: str) -> None:
    """Serve on the loopback interface until told to stop."""
    end_with_parent()
    app = importlib.import_module(f"examples.shop.{shop}.{service}").app
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
