"""What the journal of the protected shop still lists as open, read from its table."""

from __future__ import annotations

from sqlalchemy import func, inspect, select, table
from sqlalchemy.sql import column

from examples.shop.places import Places, opened

__all__ = ["unfinished"]

TRANSACTIONS = table("backstay_txn_transaction", column("state"))
ENDED = ("confirmed", "cancelled")


def unfinished(places: Places) -> int:
    """Transactions that are neither confirmed nor cancelled; 0 for the naive shop, which keeps no journal."""
    with opened(places.journal) as journal:
        if not inspect(journal).has_table(TRANSACTIONS.name):
            return 0
        with journal.connect() as connection:
            open_now = select(func.count()).select_from(TRANSACTIONS).where(TRANSACTIONS.c.state.not_in(ENDED))
            return connection.scalars(open_now).one()
