"""What the OpenAPI document says of the routes: bodies are read by hand, after the client was recognised."""

from __future__ import annotations

from typing import Any

__all__ = ["CHANGE", "EVALUATION", "HEARTBEAT", "IMPORT", "PLACE", "ROLLBACK", "SESSION", "TOKEN", "described"]

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}
_ANYTHING: dict[str, Any] = {}
_OBJECT = {"type": "object", "additionalProperties": True}


def _body(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


CHANGE = _body(
    "base", "reason", "changes",
    base={**_NUMBER, "description": "the version that the change was made for"},
    reason={**_TEXT, "maxLength": 500},
    until={"type": ["string", "null"], "format": "date-time"},
    dry_run={"type": "boolean"},
    changes={
        "type": "array", "minItems": 1, "maxItems": 1000,
        "items": _body("section", "name", section=_TEXT, name=_TEXT, value=_ANYTHING, remove={"type": "boolean"}),
    },
)  # fmt: skip
ROLLBACK = _body("base", "to", "reason", base=_NUMBER, to=_NUMBER, reason=_TEXT, dry_run={"type": "boolean"})
IMPORT = {**_OBJECT, "description": "sections by name, as the export gives them; also as application/toml"}
SESSION = _body("token", token={**_TEXT, "writeOnly": True})
TOKEN = _body(
    "name", "role", "scopes",
    name={**_TEXT, "maxLength": 100},
    role={"enum": ["reader", "operator", "admin"]},
    scopes={"type": "array", "minItems": 1, "maxItems": 100, "items": _TEXT},
    expires_at={"type": ["string", "null"], "format": "date-time"},
)  # fmt: skip
HEARTBEAT = {
    **_body(
        "scope", "instance", "state",
        scope=_TEXT, instance=_TEXT, epoch=_NUMBER, version=_NUMBER, applied_at=_TEXT, state=_TEXT,
        levels={"type": "object", "additionalProperties": _TEXT}, delay_s={"type": ["number", "null"]}, signals=_OBJECT,
    ),
    "additionalProperties": True,
}  # fmt: skip
EVALUATION = {"type": "object", "properties": {"context": _OBJECT}}


PLACE = ("app", "env")


def described(
    summary: str, role: str, body: dict[str, Any] | None = None, *, path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a route's options for FastAPI.

    Args:
        summary: one line.
        role: that is needed; empty for none, `session` for the page's own, `ticket` for what a URL lets in.
        body: schema of the JSON that it takes.
        path: parameters of the path that its function does not name.
    """
    extra: dict[str, Any] = {"x-backstay-role": role}
    if role not in ("", "session", "ticket"):
        extra["security"] = [{"token": []}, {"session": []}]
    elif role == "session":
        extra["security"] = [{"session": []}]
    if path:
        extra["parameters"] = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in path]
    if body is not None:
        content = {"application/json": {"schema": body}}
        if body is IMPORT:
            content["application/toml"] = {"schema": _TEXT}
        extra["requestBody"] = {"required": True, "content": content}
    problem: dict[str, Any] = {
        "description": "a problem document (RFC 9457)",
        "content": {"application/problem+json": {}},
    }
    return {"summary": summary, "response_model": None, "openapi_extra": extra, "responses": {"4XX": problem}}
