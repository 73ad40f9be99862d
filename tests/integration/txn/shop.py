"""A stock service for HTTP tests: one participant, served by FastAPI or Flask."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine, text

from backstay.txn import Branch, Participant, TryRefused


class Stock:
    """One product with ten units."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_engine(url)
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE stock (sku VARCHAR(20) PRIMARY KEY, free INTEGER, held INTEGER)"))
            connection.execute(text("INSERT INTO stock VALUES ('a', 10, 0)"))
        self.fails: Exception | None = None
        self.participant = Participant(
            "stock", self.engine, try_=self.reserve, confirm=self.take, cancel=self.give_back
        )

    def reserve(self, connection: Connection, branch: Branch, *, sku: str, quantity: int) -> dict[str, str]:
        if self.fails is not None:
            raise self.fails
        found = connection.execute(
            text("UPDATE stock SET free = free - :n, held = held + :n WHERE sku = :sku AND free >= :n"),
            {"n": quantity, "sku": sku},
        )
        if found.rowcount != 1:
            raise TryRefused(f"sold out: {sku}", detail={"sku": sku})
        return {"hold": branch.gtrid}

    def take(self, connection: Connection, branch: Branch, *, sku: str, quantity: int) -> None:
        assert branch.result == {"hold": branch.gtrid}
        statement = text("UPDATE stock SET held = held - :n WHERE sku = :sku")
        connection.execute(statement, {"n": quantity, "sku": sku})

    def give_back(self, connection: Connection, branch: Branch, *, sku: str, quantity: int) -> None:
        statement = text("UPDATE stock SET free = free + :n, held = held - :n WHERE sku = :sku")
        connection.execute(statement, {"n": quantity, "sku": sku})

    def rows(self) -> tuple[int, int]:
        with self.engine.connect() as connection:
            row = connection.execute(text("SELECT free, held FROM stock")).one()
            return row.free, row.held
