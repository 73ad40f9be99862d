"""What the three services say to each other and to customers: the same for both shops."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Catalogue", "Item", "Line", "Purchase", "Receipt", "Units"]

Identity = Annotated[int, Field(ge=1, strict=True)]
Units = dict[int, int]


class Line(BaseModel):
    """One product of a basket; quantity 0 is a line that was rung up and voided, so it reserves nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: Identity
    quantity: Annotated[int, Field(ge=0, strict=True)]
    cents: Annotated[int, Field(ge=0, strict=True, description="price of the whole line")]


class Purchase(BaseModel):
    """A basket at the till; refused at once when a quantity is negative or nothing is left to buy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basket_id: Identity
    household_id: Identity
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _something_to_buy_once_each(self) -> Self:
        if not any(line.quantity for line in self.lines):
            raise ValueError(f"basket {self.basket_id} holds nothing to buy: every line has quantity 0")
        products = [line.product_id for line in self.lines]
        if len(products) != len(set(products)):
            raise ValueError(f"basket {self.basket_id} names a product twice; add up its quantities in one line")
        return self

    @property
    def bought(self) -> tuple[Line, ...]:
        """The lines that leave the shelf, ordered by product so that all purchases lock rows in the same order."""
        return tuple(sorted((line for line in self.lines if line.quantity), key=lambda line: line.product_id))

    @property
    def units(self) -> Units:
        """Units to take from the shelf, by product."""
        return {line.product_id: line.quantity for line in self.bought}

    @property
    def cents(self) -> int:
        """Price of the whole basket in cents."""
        return sum(line.cents for line in self.bought)


class Receipt(BaseModel):
    """The answer to a purchase that was made."""

    basket_id: int
    cents: int
    state: Literal["placed"] = "placed"


class Item(BaseModel):
    """A product that is on the shelf."""

    product_id: int
    on_hand: int | None = None


class Catalogue(BaseModel):
    """The best stocked products; `static` where a prepared list stands in for the stock service."""

    source: Literal["live", "static"]
    products: list[Item]
