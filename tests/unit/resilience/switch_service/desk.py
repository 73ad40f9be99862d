"""A service and those who use it, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from backstay.resilience.switch_service import Store, create_app

SCOPE = "shop/production"
CONFIG = f"/v1/config/{SCOPE}"
FILES = {
    "index.html": ("text/html; charset=utf-8", b"<!doctype html><title>Switches</title>"),
    "app.js": ("text/javascript", b"1"),
}


class Desk:
    """The service with a holder for each role, and clocks that stand still until they are moved."""

    client: TestClient

    def __init__(self, folder: Path, **options: Any) -> None:
        self.now_ms = 1_795_485_600_000  # 2026-11-24T02:00:00Z
        self.seconds = 1000.0
        self.store = Store(f"sqlite:///{folder / 'switches.db'}", wall=lambda: self.now_ms)
        # The task that looks for changes runs on real time; tests that need it call it themselves.
        options = {"interval": 60.0, "files": FILES, **options}
        self.app = create_app(self.store, clock=lambda: self.seconds, **options)
        self.tokens = {
            "reader": self.store.holders.add("ada", "reader", ["shop/*"], by="test").text,
            "operator": self.store.holders.add("bo", "operator", ["shop/*"], by="test").text,
            "admin": self.store.holders.add("cy", "admin", ["*"], by="test").text,
            "stranger": self.store.holders.add("di", "admin", ["bank/production"], by="test").text,
        }

    def headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    def ask(self, method: str, path: str, who: str = "operator", **options: Any) -> Any:
        given: Mapping[str, str] = options.pop("headers", {})
        return self.client.request(method, path, headers={**self.headers(who), **given}, **options)

    def change(self, base: int, reason: str = "test", who: str = "operator", **switches: Any) -> Any:
        changes = [{"section": "switches", "name": name, "value": value} for name, value in switches.items()]
        return self.ask("PATCH", CONFIG, who, json={"base": base, "reason": reason, "changes": changes})

    def audit(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.ask("GET", "/v1/audit", "admin").json()["entries"]
        return entries
