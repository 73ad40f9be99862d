"""`backstay switches`: the service itself, its tokens, and what operators do with switches at night."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer
from rich.console import Console
from rich.table import Table

from backstay.errors import Misuse
from backstay.url import require

from .client import Client
from .scopes import check_scope

if TYPE_CHECKING:
    from .store import Store

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Run the switch service; read and turn switches.")
token_app = typer.Typer(no_args_is_help=True, help="Make, list and end tokens, on the service's database.")
app.add_typer(token_app, name="token")

_StoreUrl: TypeAlias = Annotated[
    str,
    typer.Option("--store", envvar="BACKSTAY_SWITCHES_STORE", help="sqlite:///path or postgresql+psycopg://..."),
]
_Url: TypeAlias = Annotated[str, typer.Option("--url", envvar="BACKSTAY_SWITCHES_URL", help="Where the service is.")]
_Token: TypeAlias = Annotated[str | None, typer.Option("--token", envvar="BACKSTAY_SWITCHES_TOKEN", show_envvar=True)]
_Place: TypeAlias = Annotated[str, typer.Argument(metavar="SCOPE", help="application/environment")]
_Reason: TypeAlias = Annotated[str, typer.Option("--reason", help="Why; it stands in the history.")]
_DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
_STORE = "sqlite:///switches.db"
_URL = "http://127.0.0.1:8321"


@app.command("serve")
def serve(
    store: _StoreUrl = _STORE,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8321,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Key of the TLS certificate.")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="TLS certificate.")] = None,
    public_url: Annotated[str, typer.Option(help="Where clients reach the service, if not where they ask.")] = "",
    forwarded_allow_ips: Annotated[
        str | None, typer.Option(help="Proxies whose X-Forwarded-For is believed, comma separated.")
    ] = None,
    log_level: str = "info",
) -> None:
    """Run one replica. The first start with a database prints a token that may do everything, once."""
    uvicorn: Any = require("uvicorn", "switch-service")
    require("fastapi", "switch-service")
    from .app import create_app

    if (ssl_keyfile is None) != (ssl_certfile is None):
        raise Misuse("TLS needs both --ssl-keyfile and --ssl-certfile")
    with _opened(store) as opened:
        first = opened.holders.first()
        if first is not None:
            typer.echo(f"A token that may do everything, shown once and kept nowhere:\n\n    {first.text}\n")
            typer.echo("Make others with 'backstay switches token create', and end this one.")
        scheme = "http" if ssl_certfile is None else "https"
        if scheme == "http" and host not in ("127.0.0.1", "::1", "localhost"):
            typer.echo(
                "Tokens cross the network unencrypted: give --ssl-certfile, or a proxy that speaks TLS", err=True
            )
        typer.echo(f"serving on {scheme}://{host}:{port}")
        sys.stdout.flush()
        uvicorn.run(
            create_app(opened, public_url=public_url),
            host=host,
            port=port,
            ssl_keyfile=ssl_keyfile,
            ssl_certfile=ssl_certfile,
            log_level=log_level,
            access_log=False,
            server_header=False,
            proxy_headers=forwarded_allow_ips is not None,
            forwarded_allow_ips=forwarded_allow_ips,
            timeout_graceful_shutdown=2,  # streams would keep it for ever
        )


@token_app.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="Of its holder; it stands in history and audit.")],
    role: Annotated[str, typer.Option(help="reader, operator or admin")] = "reader",
    scope: Annotated[
        list[str] | None, typer.Option(help="Such as shop/production, shop/* or *; may be repeated.")
    ] = None,
    store: _StoreUrl = _STORE,
) -> None:
    """Make a token and print it, once."""
    if not scope:
        raise Misuse("say where the token is good: --scope shop/production, or --scope '*'")
    with _opened(store) as opened:
        typer.echo(opened.holders.add(name, role, scope, by=f"{getpass.getuser()} (command line)").text)


@token_app.command("list")
def token_list(store: _StoreUrl = _STORE) -> None:
    """List tokens, without their secrets."""
    table = Table()
    for column in ("id", "name", "role", "scopes", "made", "by", "ends", "ended"):
        table.add_column(column, overflow="fold")
    with _opened(store) as opened:
        for each in opened.holders.all():
            table.add_row(
                each["id"], each["name"], each["role"], " ".join(each["scopes"]), each["created_at"],
                each["created_by"], each["expires_at"] or "", each["revoked_at"] or "",
            )  # fmt: skip
    _console().print(table)


@token_app.command("revoke")
def token_revoke(token_id: str, store: _StoreUrl = _STORE) -> None:
    """End a token and its sessions."""
    with _opened(store) as opened:
        done = opened.holders.revoke(token_id, by=f"{getpass.getuser()} (command line)")
    typer.echo("ended" if done else "there is no such token, or it was ended already")
    raise typer.Exit(0 if done else 1)


@app.command("list")
def list_switches(
    scope: Annotated[str | None, typer.Argument(metavar="[SCOPE]", help="application/environment")] = None,
    url: _Url = _URL,
    token: _Token = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """List scopes, or the switches of one."""
    with Client(url, token) as client:
        if scope is None:
            found = client.get("/v1/scopes")["scopes"]
            listed = [(each["scope"], str(each["version"]), each["role"]) for each in found]
            _print(found, ("scope", "version", "role"), listed, as_json)
            return
        document = client.document(check_scope(scope))
    switches: dict[str, Any] = document["items"].get("switches", {})
    rows = [_row(name, switches[name]) for name in sorted(switches)]
    _print(document, ("switch", "is", "until", "why"), rows, as_json)


@app.command("set")
def set_switch(
    scope: _Place,
    name: str,
    value: Annotated[str, typer.Argument(help='on, off, or JSON such as \'{"enabled": true, "percentage": 25}\'')],
    reason: _Reason,
    until: Annotated[str | None, typer.Option(help="Until when, such as 2026-11-24T22:00:00Z.")] = None,
    dry_run: _DryRun = False,
    url: _Url = _URL,
    token: _Token = None,
) -> None:
    """Turn a switch; the scope is made by the first one."""
    change = {"section": "switches", "name": name, "value": _value(value)}
    with Client(url, token) as client:
        _report(
            client.send(
                "PATCH",
                f"/v1/config/{check_scope(scope)}",
                {"base": client.version(scope), "reason": reason, "until": until, "changes": [change],
                 "dry_run": dry_run},
            )
        )  # fmt: skip


@app.command("rollback")
def rollback(
    scope: _Place, to: int, reason: _Reason, dry_run: _DryRun = False, url: _Url = _URL, token: _Token = None
) -> None:
    """Make what version TO held the next version."""
    with Client(url, token) as client:
        body = {"base": client.version(check_scope(scope)), "to": to, "reason": reason, "dry_run": dry_run}
        _report(client.send("POST", f"/v1/config/{scope}/rollback", body))


@app.command("export")
def export(
    scope: _Place,
    form: Annotated[str, typer.Option("--format", help="toml or json")] = "toml",
    url: _Url = _URL,
    token: _Token = None,
) -> None:
    """Print a document."""
    if form not in ("toml", "json"):
        raise Misuse(f"--format is toml or json, got {form!r}")
    with Client(url, token) as client:
        if form == "toml":
            typer.echo(client.text(f"/v1/config/{check_scope(scope)}?format=toml"), nl=False)
        else:
            typer.echo(json.dumps({"schema": 1, **client.document(check_scope(scope))["items"]}, indent=1))


@app.command("import")
def import_document(
    scope: _Place,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    reason: _Reason = "import",
    dry_run: _DryRun = False,
    url: _Url = _URL,
    token: _Token = None,
) -> None:
    """Replace a document by a file, TOML or JSON by its ending."""
    with Client(url, token) as client:
        _report(client.replace(check_scope(scope), file.read_bytes(), file.suffix == ".json", reason, dry_run))


@contextmanager
def _opened(url: str) -> Generator[Store, None, None]:
    require("sqlalchemy", "switch-service")
    from .store import Store

    with Store(url) as store:
        yield store


def _value(text: str) -> Any:
    words = {"on": True, "true": True, "off": False, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        raise Misuse(f"a switch is on, off, or JSON, got {text!r}") from None


def _row(name: str, value: Any) -> tuple[str, str, str, str]:
    if isinstance(value, bool):
        return name, "on" if value else "off", "", ""
    table = cast("dict[str, Any]", value)
    enabled = "off" if table.get("enabled") is False else "on"
    if table.get("percentage") is not None:
        enabled += f" for {table['percentage']} %"
    if "variants" in table:
        enabled += f", {table.get('default')!r} of {len(table['variants'])} variants"
    return name, enabled, str(table.get("until") or ""), str(table.get("reason") or "")


def _print(document: Any, columns: tuple[str, ...], rows: list[Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _report(published: dict[str, Any]) -> None:
    for change in published["changes"]:
        old, new = (json.dumps(change[side], sort_keys=True) for side in ("old", "new"))
        typer.echo(f"{change['section']} {change['name']}: {old} -> {new}")
    if not published["changes"]:
        typer.echo(f"nothing changes; version {published['version']} stays")
    else:
        would = "would be version" if published["dry_run"] else "version"
        typer.echo(f"{would} {published['version']} of {published['scope']}")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 200)
