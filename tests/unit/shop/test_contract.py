from __future__ import annotations

import pytest
from pydantic import ValidationError

from examples.shop.contract import Purchase


def basket(*lines: tuple[int, int, int]) -> dict[str, object]:
    named = [{"product_id": p, "quantity": q, "cents": c} for p, q, c in lines]
    return {"basket_id": 1, "household_id": 2, "lines": named}


def test_a_basket_adds_up_and_voided_lines_take_nothing() -> None:
    purchase = Purchase.model_validate(basket((9, 2, 300), (3, 0, 0), (4, 1, 50)))
    assert purchase.units == {4: 1, 9: 2}
    assert list(purchase.units) == [4, 9], "all purchases take the shelves in the same order"
    assert purchase.cents == 350


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([(9, -1, 300)], "greater than or equal to 0"),
        ([(9, 1, -300)], "greater than or equal to 0"),
        ([(9, 0, 0)], "nothing to buy"),
        ([(9, 1, 1), (9, 2, 2)], "names a product twice"),
        ([], "at least 1 item"),
    ],
)
def test_a_basket_that_makes_no_sense_is_refused_with_a_reason(lines: list[tuple[int, int, int]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Purchase.model_validate(basket(*lines))


@pytest.mark.parametrize("quantity", ["2", 1.5, True, None])
def test_a_quantity_is_a_whole_number_and_nothing_like_one(quantity: object) -> None:
    body = basket((9, 1, 300))
    body["lines"][0]["quantity"] = quantity  # type: ignore[index]  # a JSON body is loosely typed
    with pytest.raises(ValidationError, match="quantity"):
        Purchase.model_validate(body)
