"""`backstay write-behind`: run a consumer, look at the turn, and take its steps."""

from __future__ import annotations

import signal
import threading
from typing import Annotated, TypeAlias

import typer

from backstay.errors import Misuse

from .values import Balances
from .write_behind import WriteBehind

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Bring operations from a cache to its database; take steps of the turn.")

_Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Of the balances.")]
_CacheUrl: TypeAlias = Annotated[str, typer.Option("--cache", envvar="BACKSTAY_WRITE_BEHIND_CACHE")]
_DatabaseUrl: TypeAlias = Annotated[str, typer.Option("--database", envvar="BACKSTAY_WRITE_BEHIND_DATABASE")]
_Columns: TypeAlias = Annotated[
    str,
    typer.Option(
        "--balances",
        envvar="BACKSTAY_WRITE_BEHIND_BALANCES",
        help="TABLE:KEY:BALANCE, with :int behind it where keys are numbers",
    ),
]


def _connect(name: str, cache: str, database: str, balances: str) -> WriteBehind:
    parts = balances.split(":")
    if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "int"):
        raise Misuse(
            f"--balances is TABLE:KEY:BALANCE, or TABLE:KEY:BALANCE:int where keys are numbers; got {balances!r}"
        )
    kind = int if len(parts) == 4 else str
    columns = Balances(table=parts[0], key=parts[1], balance=parts[2], kind=kind)
    return WriteBehind.connect(name, cache=cache, database=database, balances=columns)


@app.command("consume")
def consume(
    name: _Name,
    cache: _CacheUrl,
    database: _DatabaseUrl,
    balances: _Columns,
    consumer: Annotated[str | None, typer.Option(help="This consumer's name: the same after a restart.")] = None,
    batch: Annotated[int, typer.Option(help="Entries in one transaction.")] = 200,
) -> None:
    """Run a consumer until SIGTERM or SIGINT; the batch under way is finished."""
    stop = threading.Event()

    def end(number: int, frame: object) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with _connect(name, cache, database, balances) as subject:
        subject.consumer(name=consumer, batch=batch).run(stop)


@app.command("create-tables")
def create_tables(name: _Name, cache: _CacheUrl, database: _DatabaseUrl, balances: _Columns) -> None:
    """Create the tables that stand beside yours."""
    with _connect(name, cache, database, balances) as subject:
        subject.create_tables()


@app.command("status")
def status(name: _Name, cache: _CacheUrl, database: _DatabaseUrl, balances: _Columns) -> None:
    """Print where the cache stands and how far the database is behind."""
    with _connect(name, cache, database, balances) as subject:
        found = subject.status()
        print(
            f"{found.phase.value}, turn {found.fence}: {found.pending} pending, the oldest for {found.lag:.1f} s; "
            f"{found.parked} parked on {found.frozen} keys"
        )


@app.command("enter")
def enter(name: _Name, cache: _CacheUrl, database: _DatabaseUrl, balances: _Columns) -> None:
    """Give the turn to the cache."""
    with _connect(name, cache, database, balances) as subject:
        print(f"the cache has turn {subject.enter()}")


@app.command("leave")
def leave(name: _Name, cache: _CacheUrl, database: _DatabaseUrl, balances: _Columns, timeout: float = 60.0) -> None:
    """Give the turn back to the database, once both are equal."""
    with _connect(name, cache, database, balances) as subject:
        subject.leave(timeout)
        print("the database has the turn")


@app.command("parked")
def parked(name: _Name, cache: _CacheUrl, database: _DatabaseUrl, balances: _Columns) -> None:
    """List operations that the database refuses."""
    with _connect(name, cache, database, balances) as subject:
        for entry, reason in subject.parked():
            print(f"{entry.key}\t{entry.op}\t{entry.delta}\t{reason}")


@app.command("retry")
def retry(name: _Name, key: str, cache: _CacheUrl, database: _DatabaseUrl, balances: _Columns) -> None:
    """Put a key's parked operations back and thaw it."""
    with _connect(name, cache, database, balances) as subject:
        print(f"{subject.retry(key)} operations of {key} are tried again")
