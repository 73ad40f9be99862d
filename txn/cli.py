"""`backstay txn`: look at a journal, and finish what was left."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from backstay.blocking import drive
from backstay.errors import Misuse

from .asynchronous import AsyncTransactionManager
from .blocking import TransactionManager
from .cast import Company
from .journal import TransactionRecord
from .tcc.states import BranchState, State

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List, retry and recover transactions.")

_JournalOption: TypeAlias = Annotated[
    str | None, typer.Option("--journal", envvar="BACKSTAY_JOURNAL", help="URL of the journal's database.")
]
_AppOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--app", help="module:attribute of a transaction manager, with its actions and hosts set up."),
]
_Work: TypeAlias = Callable[[Company], Coroutine[Any, Any, int]]


@app.command("recover")
def recover(
    journal: _JournalOption = None,
    application: _AppOption = None,
    wait: Annotated[float, typer.Option(help="Seconds to keep trying, for leases to run out among others.")] = 30.0,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for leases: take over from living coordinators too.")
    ] = False,
) -> None:
    """Finish what dead coordinators left: cancel the undecided, confirm or cancel the decided.

    Exits with 0 only if nothing unfinished remains.
    """

    async def work(company: Company) -> int:
        runtime = company.runtime
        lease = await company.cast.seat.take()
        if now:
            await company.journal.fence(lease)
        before = {record.gtrid: record for record in await company.journal.unfinished(10_000)}
        until = runtime.now() + wait
        while True:
            touched = await company.cast.recoverer.round(grace=0.0)
            left = await company.journal.unfinished(10_000)
            if not left or all(_stuck(record) for record in left) or runtime.now() >= until:
                break
            if not touched:
                await runtime.sleep(0.2)
        remaining = {record.gtrid: record for record in left}
        ended = 0
        shown: list[TransactionRecord] = []
        for gtrid in before:
            record = remaining.pop(gtrid, None) or await company.journal.read(gtrid)
            if record is not None:
                ended += record.state in (State.CONFIRMED, State.CANCELLED)
                shown.append(record)
        _print([*shown, *remaining.values()], "recovered")
        typer.echo(f"{ended} finished, {len(left)} unfinished")
        return 1 if left else 0

    _run(journal, application, work)


@app.command("list")
def list_transactions(
    journal: _JournalOption = None,
    application: _AppOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Ended transactions too, the newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1)] = 100,
) -> None:
    """List transactions that are not finished."""

    async def work(company: Company) -> int:
        await company.journal.prepare()
        found = company.journal.recent(limit) if everything else company.journal.unfinished(limit)
        _print(await found, "transactions")
        return 0

    _run(journal, application, work)


@app.command("show")
def show(gtrid: str, journal: _JournalOption = None, application: _AppOption = None) -> None:
    """Show a transaction and its branches."""

    async def work(company: Company) -> int:
        await company.journal.prepare()
        record = await company.journal.read(gtrid)
        if record is None:
            raise Misuse(f"no transaction {gtrid!r} in this journal")
        _print([record], "transaction")
        if record.reason:
            typer.echo(f"reason: {record.reason}")
        table = Table(title="branches")
        for column in ("branch", "target", "state", "attempts", "last error"):
            table.add_column(column, overflow="fold")
        for branch in record.branches:
            table.add_row(branch.id, str(branch.target), branch.state, str(branch.attempts), branch.error or "")
        _console().print(table)
        return 0

    _run(journal, application, work)


@app.command("retry")
def retry(
    gtrid: Annotated[str | None, typer.Argument(help="The transaction; leave it out with --all.")] = None,
    branch: Annotated[str | None, typer.Option(help="Only this branch of it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All decided transactions.")] = False,
    journal: _JournalOption = None,
    application: _AppOption = None,
) -> None:
    """Have confirms and cancels repeated at once, dead branches too; the coordinators do it, or `recover`."""
    if (gtrid is None) is not everything:
        raise Misuse("name a transaction, or give --all")

    async def work(company: Company) -> int:
        await company.journal.prepare()
        moved = await company.journal.retry(gtrid, branch)
        typer.echo(f"{moved} transactions are due now")
        return 0 if moved or everything else 1

    _run(journal, application, work)


def _run(journal: str | None, application: str | None, work: _Work) -> None:
    manager = _manager(journal, application)
    if isinstance(manager, TransactionManager):
        try:
            code = drive(work(manager.company))
        finally:
            manager.close()
    else:
        code = asyncio.run(_async(manager, work))
    raise typer.Exit(code)


async def _async(manager: AsyncTransactionManager, work: _Work) -> int:
    async with manager:
        return await work(manager.company)


def _manager(journal: str | None, application: str | None) -> TransactionManager | AsyncTransactionManager:
    if (journal is None) is (application is None):
        raise Misuse("give either --journal URL or --app module:attribute")
    if journal is not None:
        return TransactionManager.connect(journal)
    module, colon, attribute = (application or "").partition(":")
    if not colon or not module or not attribute:
        raise Misuse(f"--app must be module:attribute, got {application!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise Misuse(f"--app: there is no module {module!r}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise Misuse(f"--app: {module!r} has no {attribute!r}")
        found = getattr(found, name)
    if not isinstance(found, (TransactionManager, AsyncTransactionManager)) and callable(found):
        found = found()
    if not isinstance(found, (TransactionManager, AsyncTransactionManager)):
        raise Misuse(f"--app: {application} is no transaction manager, but {type(found).__name__}")
    return found


def _stuck(record: TransactionRecord) -> bool:
    """Return whether only an operator can move the transaction."""
    ended = (BranchState.CONFIRMED, BranchState.CANCELLED)
    left = [branch for branch in record.branches if branch.state not in ended]
    return record.state is not State.TRYING and bool(left) and all(one.state is BranchState.DEAD for one in left)


def _print(records: list[TransactionRecord], title: str) -> None:
    table = Table(title=title)
    for column in ("gtrid", "key", "state", "age", "branches", "owner"):
        table.add_column(column, overflow="fold")
    for record in records:
        owner = f"{record.lease.owner}{'' if record.lease_alive else ' (gone)'}"
        states = ", ".join(f"{branch.target} {branch.state}" for branch in record.branches)
        table.add_row(record.gtrid, record.key or "", record.state, f"{record.age:.0f} s", states, owner)
    _console().print(table)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 200)
