"""Open a shop: make its tables and put the opening stock and balances into them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from examples.shop.places import Places, opened
from examples.shop.tables import Account, OrdersBase, PaymentsBase, Product, StockBase

from .data import Opening

__all__ = ["open_shop"]


def open_shop(places: Places, opening: Opening, folder: Path) -> None:
    """Create and fill the databases, which must be empty, and write the switch file."""
    for url in places.orders:
        with opened(url) as database:
            OrdersBase.metadata.create_all(database)
    shelf = [{"product_id": p, "opening": n, "on_hand": n} for p, n in sorted(opening.stock.items())]
    accounts = [{"household_id": h, "opening": c, "balance": c} for h, c in sorted(opening.balances.items())]
    for url, base, table, rows in (
        (places.stock, StockBase, Product, shelf),
        (places.payments, PaymentsBase, Account, accounts),
    ):
        with opened(url) as database:
            base.metadata.create_all(database)
            with database.begin() as connection:
                connection.execute(insert(table), rows)
    set_catalogue(folder, live=True)


def set_catalogue(folder: Path, *, live: bool) -> None:
    """Turn the switch that lets the catalogue be asked from the stock service; a running shop notices by itself."""
    partial = folder / "switches.toml.new"
    partial.write_text(f"[switches]\ncatalogue = {str(live).lower()}\n")
    partial.replace(folder / "switches.toml")
