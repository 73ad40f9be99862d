"""Calls of the service, as the command line makes them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, cast

from backstay.errors import Misuse, OutcomeUnknown, Rejected, Unavailable
from backstay.url import mask, require

__all__ = ["Client"]


class Client:
    """A connection to the service.

    Args:
        url: of the service.
        token: of its holder.
        transport: httpx transport, for tests.

    Raises:
        Misuse: there is no token.
        MissingExtra: httpx is not installed.
    """

    def __init__(self, url: str, token: str | None, *, transport: Any = None) -> None:
        if not token:
            raise Misuse("say who asks: BACKSTAY_SWITCHES_TOKEN in the environment, or --token")
        self._httpx: Any = require("httpx", "http")
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"}
        try:
            self._client: Any = self._httpx.Client(
                base_url=self._url, headers=headers, timeout=10.0, transport=transport
            )
        except (self._httpx.InvalidURL, UnicodeEncodeError) as error:
            raise Misuse(f"{mask(url)!r} is no URL of a service, or the token is none: {error}") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """Return what the service answers."""
        return cast("dict[str, Any]", self._ask("GET", path).json())

    def text(self, path: str) -> str:
        """Return what the service answers, as text."""
        return cast("str", self._ask("GET", path).text)

    def document(self, scope: str) -> dict[str, Any]:
        """Return the present document of a scope."""
        return self.get(f"/v1/config/{scope}")

    def version(self, scope: str) -> int:
        """Return the present version of a scope; 0 where there is none yet."""
        answer = self._ask("GET", f"/v1/config/{scope}", missing=True)
        return 0 if answer.status_code == 404 else int(answer.json()["version"])

    def send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change something and return what the service answers."""
        return cast("dict[str, Any]", self._ask(method, path, json=body).json())

    def replace(self, scope: str, body: bytes, as_json: bool, reason: str, dry_run: bool) -> dict[str, Any]:
        """Replace a document if it is still the one that is there now."""
        there = self._ask("GET", f"/v1/config/{scope}", missing=True)
        condition = {"If-None-Match": "*"} if there.status_code == 404 else {"If-Match": there.headers["etag"]}
        kind = "application/json" if as_json else "application/toml"
        query = {"reason": reason, "dry_run": "true" if dry_run else "false"}
        answer = self._ask(
            "PUT", f"/v1/config/{scope}", content=body, params=query, headers={"Content-Type": kind, **condition}
        )
        return cast("dict[str, Any]", answer.json())

    def _ask(self, method: str, path: str, *, missing: bool = False, **options: Any) -> Any:
        """Return an answer that is a success, or a 404 with `missing`.

        Raises:
            Misuse: the service does not understand or does not allow it.
            Rejected: somebody else was faster, or too many asked.
            Unavailable: the service did not answer; nothing was changed.
            OutcomeUnknown: it did not answer a change.
        """
        try:
            answer = self._client.request(method, path, **options)
        except (self._httpx.ConnectError, self._httpx.ConnectTimeout) as error:
            raise Unavailable(f"{mask(self._url)} does not answer: {error}") from error
        except self._httpx.HTTPError as error:
            if method == "GET":
                raise Unavailable(f"{mask(self._url)} does not answer: {error}") from error
            raise OutcomeUnknown(
                f"{mask(self._url)} did not answer: look at the version before you repeat it"
            ) from error
        if answer.status_code < 400 or (missing and answer.status_code == 404):
            return answer
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{mask(self._url)} answered {answer.status_code}; is it a switch service?"
        if answer.status_code in (409, 412, 429):
            raise Rejected(detail)
        if answer.status_code < 500:
            raise Misuse(detail)
        if answer.status_code == 503 or method == "GET":
            raise Unavailable(detail)
        raise OutcomeUnknown(detail)
