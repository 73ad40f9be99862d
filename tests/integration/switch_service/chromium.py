"""The page in Debian's headless Chromium, driven by playwright; no browser is downloaded."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from integration.resilience.switch_replicas import CONFIG, Replica

__all__ = ["Site", "chromium", "until"]

PATIENCE = 20_000.0


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for many pages."""
    found = os.environ.get("BACKSTAY_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "install Debian's package chromium, or name a Chromium in BACKSTAY_TEST_CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-extensions"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Site:
    """A service and somebody who looks at its page."""

    def __init__(self, browser: Browser, replica: Replica) -> None:
        self._browser = browser
        self.replica = replica
        self.operator = replica.operator()
        self.problems: list[str] = []
        self._contexts: list[Any] = []

    def patch(self, base: int, *changes: dict[str, Any], reason: str = "test", **more: Any) -> int:
        """Write a version as somebody else would, and return its number."""
        listed = [{"section": "switches", **change} for change in changes]
        answer = self.operator.client.patch(CONFIG, json={"base": base, "reason": reason, "changes": listed, **more})
        assert answer.status_code == 200, answer.text
        version: int = answer.json()["version"]
        return version

    def token(self, name: str, role: str = "operator") -> str:
        answer = self.operator.client.post("/v1/tokens", json={"name": name, "role": role, "scopes": ["*"]})
        assert answer.status_code == 201, answer.text
        text: str = answer.json()["token"]
        return text

    def beat(self, instance: str, version: int, **more: Any) -> None:
        """Report as an instance does."""
        epoch = self.operator.read()["epoch"]
        body = {"scope": "shop/production", "instance": instance, "epoch": epoch, "version": version, "state": "ready"}
        answer = self.operator.client.post("/v1/instances", json={**body, "applied_at": "", **more})
        assert answer.status_code == 200, answer.text

    def page(
        self, *, width: int = 1280, height: int = 800, scheme: Literal["light", "dark"] = "light", token: str = ""
    ) -> Page:
        """Open the page in a browser of its own, and log in unless `token` is 'none'."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("dialog", self._opened)
        page.goto(self.replica.url)
        if token != "none":
            log_in(page, token or self.replica.token)
            page.locator("#link .live").wait_for()
            page.locator("#content h2").first.wait_for()
        return page

    def _opened(self, dialog: Dialog) -> None:
        self.problems.append(f"a script opened a dialog: {dialog.message}")
        dialog.dismiss()

    def _heard(self, kind: str, text: str) -> None:
        # answers such as 401 and 409 and a service that is away are in the plot of the tests; the rest is not
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.problems.append(text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.problems == []


def log_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
