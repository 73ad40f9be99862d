from __future__ import annotations

import datetime as dt
import functools
import inspect
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from backstay.errors import Misuse
from backstay.keys import Template


class Order:
    def __init__(self, number: int) -> None:
        self.id = number
        self.lines = {"first": "apple"}


def pay(order_id: int, *, currency: str = "EUR") -> None:
    raise AssertionError("a template never calls the function")


def filled(template: str, function: Any, *args: Any, **kwargs: Any) -> str:
    return Template(template).bind(function)(args, kwargs)


# -- found when decorating


def test_a_misspelt_name_fails_when_bound_and_names_the_parameters_that_exist() -> None:
    with pytest.raises(Misuse) as caught:
        Template("order:{oder_id}").bind(pay)
    text = str(caught.value)
    assert "'oder_id'" in text
    assert "pay()" in text
    assert "order_id, currency" in text


def test_a_function_without_parameters_is_said_to_have_none() -> None:
    with pytest.raises(Misuse, match="it has: none"):
        Template("order:{order_id}").bind(lambda: None)


@pytest.mark.parametrize("text", ["order:{}", "order:{0}", "order:{0.id}", "{ order_id }", "{order id}"])
def test_a_field_must_name_a_parameter(text: str) -> None:
    with pytest.raises(Misuse, match="must name a parameter"):
        Template(text)


@pytest.mark.parametrize("text", ["order:{order_id", "order:order_id}", "{a!}"])
def test_braces_must_match(text: str) -> None:
    with pytest.raises(Misuse, match="braces"):
        Template(text)


def test_an_empty_template_is_refused() -> None:
    with pytest.raises(Misuse, match="must not be empty"):
        Template("")


@pytest.mark.parametrize("text", ["{order.__class__}", "{order._secret}", "{order.lines.__init__.__globals__}"])
def test_a_field_never_reaches_for_private_attributes(text: str) -> None:
    with pytest.raises(Misuse, match="private"):
        Template(text)


def test_the_name_of_star_args_is_no_field() -> None:
    def many(*orders: int) -> None: ...

    with pytest.raises(Misuse, match="'orders'"):
        Template("{orders}").bind(many)


# -- values from calls


@pytest.mark.parametrize(
    ("args", "kwargs"), [((7,), {}), ((), {"order_id": 7}), ((7,), {"currency": "USD"})], ids=["place", "name", "both"]
)
def test_a_value_is_found_however_it_is_passed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert filled("order:{order_id}", pay, *args, **kwargs) == "order:7"


def test_a_default_is_used_where_the_call_passes_nothing() -> None:
    assert filled("{order_id}/{currency}", pay, 7) == "7/EUR"
    assert filled("{order_id}/{currency}", pay, 7, currency="USD") == "7/USD"


def test_a_call_that_lacks_the_argument_raises_what_the_call_itself_would_raise() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'order_id'"):
        filled("order:{order_id}", pay)


def test_methods_pass_over_self() -> None:
    class Shop:
        def pay(self, order_id: int) -> None: ...

        @classmethod
        def refund(cls, order_id: int) -> None: ...

        @staticmethod
        def quote(order_id: int) -> None: ...

    shop = Shop()
    assert filled("order:{order_id}", Shop.pay, shop, 7) == "order:7"
    assert filled("order:{order_id}", shop.pay, 7) == "order:7"
    assert filled("order:{order_id}", Shop.refund, 7) == "order:7"
    assert filled("order:{order_id}", Shop.quote, 7) == "order:7"


def test_async_functions_generators_and_partials_are_functions_too() -> None:
    async def charge(order_id: int, amount: int = 1) -> None: ...

    assert filled("order:{order_id}", charge, 7) == "order:7"
    assert filled("{order_id}:{amount}", functools.partial(charge, amount=9), 7) == "7:9"
    # a bound first argument is not passed by the call and must not shift the others
    assert filled("amount:{amount}", functools.partial(charge, 7), 3) == "amount:3"


def test_wrapped_functions_show_the_parameters_of_what_they_wrap() -> None:
    @functools.wraps(pay)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert filled("order:{order_id}", wrapper, 7) == "order:7"
    assert "order_id" in inspect.signature(wrapper).parameters


def test_positional_only_and_star_arguments_stand_beside_fields() -> None:
    def many(first: int, /, second: int, *rest: int, last: int = 0, **more: int) -> None: ...

    assert filled("{first}-{second}-{last}", many, 1, 2, 3, 4, last=5) == "1-2-5"
    assert filled("{extra}", many, 1, 2, extra=9) == "9"
    with pytest.raises(Misuse, match="passes no 'extra'"):
        filled("{extra}", many, 1, 2)


def test_a_keyword_named_like_a_positional_only_parameter_belongs_to_star_kwargs() -> None:
    def odd(first: int, /, **more: int) -> None: ...

    assert filled("{first}", odd, 1, first=2) == "1"


# -- what is made of values


def test_fields_go_down_attributes_and_items() -> None:
    def ship(order: Order, line: dict[str, str]) -> None: ...

    assert filled("{order.id}/{line[sku]}/{order.lines[first]}", ship, Order(7), {"sku": "a1"}) == "7/a1/apple"


@pytest.mark.parametrize("field", ["{order.missing}", "{order[0]}", "{order.lines[second]}"])
def test_a_field_that_leads_nowhere_is_misuse(field: str) -> None:
    def ship(order: Order) -> None: ...

    with pytest.raises(Misuse, match="leads nowhere"):
        filled(field, ship, Order(7))


def test_formats_and_conversions_apply() -> None:
    def plan(day: dt.date, shard: int, name: str) -> None: ...

    day = dt.date(2026, 11, 23)
    assert filled("{day:%Y-%m}|{shard:03d}|{name!r}", plan, day, 7, "x") == "2026-11|007|'x'"


def test_a_format_that_does_not_fit_the_value_is_misuse() -> None:
    with pytest.raises(Misuse, match=r"\{order_id\}"):
        filled("{order_id:03d}", pay, "seven")


@pytest.mark.parametrize("value", [None, object(), Order(7)])
def test_a_value_without_a_text_of_its_own_is_refused(value: object) -> None:
    with pytest.raises(Misuse, match="no text of its own"):
        filled("order:{order_id}", pay, value)


def test_a_template_without_fields_is_a_constant_and_braces_can_be_escaped() -> None:
    assert filled("catalogue", pay, 7) == "catalogue"
    assert filled("{{catalogue}}", pay, 7) == "{catalogue}"
    assert filled("{{{order_id}}}", pay, 7) == "{7}"


parts = st.text(alphabet=":%3Aab", max_size=4)  # what could be confused; any text would hardly ever collide


@given(st.tuples(parts, parts), st.tuples(parts, parts))
@example(("a:", "b"), ("a", ":b"))
@example(("a%3A", "b"), ("a:", "b"))
def test_two_calls_with_other_values_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    def pair(a: str, b: str) -> None: ...

    key = Template("{a}:{b}").bind(pair)
    assert (key(one, {}) == key(other, {})) == (one == other)


def test_a_single_field_is_left_as_it_is() -> None:
    assert filled("order:{order_id}", pay, "a:b%") == "order:a:b%"


def test_a_template_shows_its_text_and_names() -> None:
    template = Template("{a}:{b.id}:{a}")
    assert repr(template) == "Template('{a}:{b.id}:{a}')"
    assert template.names == ("a", "b")
