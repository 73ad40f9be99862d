"""The result as one table: what each shop did wrong, how fast it was, and what the customers were told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from .audit import Books
from .customers import INVALID, ORDERED, REFUSALS, Served
from .run import Outcome

__all__ = ["VIOLATIONS", "measures", "result_table"]

VIOLATIONS: dict[str, Callable[[Books], int]] = {
    "units oversold": lambda books: books.oversold_units,
    "money taken without an order": lambda books: books.money_without_order,
    "orders without money": lambda books: books.orders_without_money,
    "double charges": lambda books: books.double_charges,
    "reservations left hanging": lambda books: books.hanging_reservations,
    "transactions left unfinished": lambda books: books.unfinished_transactions,
    "shelves and accounts with a wrong sum": lambda books: books.wrong_sums,
}


def measures(outcome: Outcome) -> dict[str, str]:
    """What is good to know beside the violations, as text."""
    books, served = outcome.books, outcome.served
    p50, p99 = served.percentiles(0.50, 0.99)
    return {
        "dollars at stake": f"{(books.cents_without_order + books.cents_not_charged) / 100:,.2f}",
        "orders placed": f"{books.orders:,}",
        "baskets refused (sold out / no money)": f"{served.answers['sold out']} / {served.answers['payment refused']}",
        "baskets told to try later, or not answered": f"{told_later(served):,}",
        "requests per second": f"{served.per_second:.1f}",
        "p50 latency": f"{p50 * 1000:.0f} ms",
        "p99 latency": f"{p99 * 1000:.0f} ms",
    }


def told_later(served: Served) -> int:
    """Baskets whose customer got neither an order nor a refusal."""
    told = (ORDERED, INVALID, *REFUSALS.values())
    return sum(count for answer, count in served.answers.items() if answer not in told)


def result_table(outcomes: Sequence[Outcome]) -> Table:
    """Violations first, each 0 in green and anything else in red."""
    table = Table()
    table.add_column("after everything came to rest")
    for outcome in outcomes:
        table.add_column(outcome.shop, justify="right")
    for name, count in VIOLATIONS.items():
        counts = [count(outcome.books) for outcome in outcomes]
        table.add_row(name, *(f"[{'red' if n else 'green'}]{n:,}[/]" for n in counts))
    table.add_section()
    columns = [measures(outcome) for outcome in outcomes]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table
