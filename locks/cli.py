"""`backstay locks`: who holds, since when, with which fence, who waits; and breaking what a dead holder left."""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from backstay.errors import Misuse

from .backend import Survey
from .claims import WHOLE, Resource, Unit
from .connection import Locks
from .owners import readable

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at locks, and break what a dead holder left.")

_Url: TypeAlias = Annotated[
    str | None, typer.Option("--url", envvar="BACKSTAY_LOCKS_URL", help="The store, such as redis://localhost/0.")
]
_Space: TypeAlias = Annotated[str, typer.Option("--namespace", envvar="BACKSTAY_LOCKS_NAMESPACE")]
_Kind: TypeAlias = Annotated[
    str, typer.Option("--kind", help="lock, read-write lock, semaphore or segmented lock; words may be joined by '-'.")
]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
_Limit: TypeAlias = Annotated[int, typer.Option(min=1, max=10_000)]


@app.command("list")
def list_held(
    url: _Url = None,
    namespace: _Space = "default",
    limit: _Limit = 100,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what somebody waits for.")] = False,
    as_json: _Json = False,
) -> None:
    """List what is held or waited for."""
    with _connect(url, namespace) as locks:
        found = _found(locks, limit, waiting)
    if as_json:
        typer.echo(json.dumps([_document(resource, survey) for resource, survey in found], indent=1))
    else:
        _console().print(_overview(found))


@app.command("show")
def show(
    name: str, kind: _Kind = "lock", url: _Url = None, namespace: _Space = "default", as_json: _Json = False
) -> None:
    """Show who holds a lock and who waits for it, in order."""
    with _connect(url, namespace) as locks:
        resource = Resource(name, _kind(kind))
        survey = locks.inspect(name, kind=resource.kind)
    if as_json:
        typer.echo(json.dumps(_document(resource, survey), indent=1))
        return
    console = _console()
    console.print(f"{resource}{f', size {survey.size}' if survey.size else ''}")
    table = Table()
    for column in ("", "who", "what", "fence", "for", "ends in", "token"):
        table.add_column(column, overflow="fold")
    for each in survey.holders:
        ends = "with its session" if each.left is None else _span(each.left)
        table.add_row(
            "holds", readable(each.token), _what(each.units), str(each.fence), _span(each.age), ends, each.token
        )
    for place, waiter in enumerate(survey.waiters, start=1):
        table.add_row(f"waits, {place}", readable(waiter.token), _what(waiter.units), "", "", "", waiter.token)
    console.print(table)


@app.command("break")
def break_lock(
    name: str,
    reason: Annotated[str, typer.Option(help="Why; it is written into the record.")],
    kind: _Kind = "lock",
    token: Annotated[str | None, typer.Option(help="Only this holder's grant.")] = None,
    by: Annotated[str | None, typer.Option(help="Who breaks it; default the user of this machine.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: _Url = None,
    namespace: _Space = "default",
) -> None:
    """End the grants of a lock. Its holder learns of it at its next renewal; only fences keep its late writes out."""
    with _connect(url, namespace) as locks:
        survey = locks.inspect(name, kind=_kind(kind))
        chosen = [each for each in survey.holders if token in (None, each.token)]
        if not chosen:
            typer.echo(f"{Resource(name, _kind(kind))} is not held; nothing to break")
            raise typer.Exit(1)
        for each in chosen:
            typer.echo(f"held by {readable(each.token)} for {_span(each.age)}, fence {each.fence}")
        if not yes:
            typer.confirm("It may still be working. Break it?", abort=True)
        for each in chosen:
            who = by or getpass.getuser()
            locks.break_lock(name, by=who, reason=reason, kind=_kind(kind), token=each.token)
    typer.echo(f"{len(chosen)} broken")


@app.command("breaks")
def breaks(url: _Url = None, namespace: _Space = "default") -> None:
    """Show the record of what was broken, by whom and why."""
    with _connect(url, namespace) as locks:
        record = locks.breaks()
    table = Table()
    for column in ("at", "by", "what", "holder", "fence", "reason"):
        table.add_column(column, overflow="fold")
    for each in record:
        what = str(Resource(each.name, each.kind))
        table.add_row(each.at, each.by, what, readable(each.token), str(each.fence), each.reason)
    _console().print(table)


@app.command("watch")
def watch(
    url: _Url = None,
    namespace: _Space = "default",
    limit: _Limit = 100,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what somebody waits for.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    looks: Annotated[int, typer.Option(min=0, help="Stop after so many; 0 goes on until it is interrupted.")] = 0,
) -> None:
    """Show the list anew again and again."""
    with _connect(url, namespace) as locks:
        look: Callable[[], Table] = lambda: _overview(_found(locks, limit, waiting))  # noqa: E731
        with Live(look(), console=_console(), auto_refresh=False) as live:
            done = 1
            while not looks or done < looks:
                time.sleep(every)
                live.update(look(), refresh=True)
                done += 1


def _connect(url: str | None, namespace: str) -> Locks:
    if url is None:
        raise Misuse("say where the locks are: --url redis://localhost/0, or BACKSTAY_LOCKS_URL")
    return Locks.connect(url, namespace=namespace)


def _kind(text: str) -> str:
    return "read-write lock" if text in ("read-write-lock", "read-write") else text.replace("-", " ")


def _found(locks: Locks, limit: int, waiting: bool) -> list[tuple[Resource, Survey]]:
    found = [(resource, locks.inspect(resource.name, kind=resource.kind)) for resource in locks.held(limit=limit)]
    return [(resource, survey) for resource, survey in found if survey.waiters or (survey.holders and not waiting)]


def _overview(found: list[tuple[Resource, Survey]]) -> Table:
    table = Table(title=f"{len(found)} held or waited for")
    for column in ("kind", "name", "held by", "fence", "for", "waiting"):
        table.add_column(column, overflow="fold")
    for resource, survey in found:
        first = survey.holders[0] if survey.holders else None
        more = f" and {len(survey.holders) - 1} more" if len(survey.holders) > 1 else ""
        table.add_row(
            resource.kind,
            resource.name,
            "" if first is None else readable(first.token) + more,
            "" if first is None else str(first.fence),
            "" if first is None else _span(first.age),
            str(len(survey.waiters)),
        )
    return table


def _document(resource: Resource, survey: Survey) -> dict[str, Any]:
    return {
        "kind": resource.kind,
        "name": resource.name,
        "size": survey.size,
        "holders": [
            {
                "who": readable(each.token),
                "token": each.token,
                "what": _what(each.units),
                "fence": each.fence,
                "age": round(each.age, 3),
                "left": None if each.left is None else round(each.left, 3),
            }
            for each in survey.holders
        ],
        "waiters": [
            {"who": readable(each.token), "token": each.token, "what": _what(each.units)} for each in survey.waiters
        ],
    }


def _what(units: tuple[Unit, ...]) -> str:
    """Say what is claimed, as a person would."""
    if [unit.label for unit in units] == [""]:
        (unit,) = units
        if unit.capacity == WHOLE:
            return "write" if unit.weight == WHOLE else "read"
        return "" if unit.capacity == 1 else f"{unit.weight} permits"
    named = [unit.label for unit in units if unit.label != "*"]
    return f"stripes {', '.join(named)}" if named else "the whole"


def _span(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.1f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 200)
