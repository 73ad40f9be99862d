"""Reading the books after everything has come to rest: the databases alone tell what a shop did right and wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy import select

from examples.shop.places import Places, opened
from examples.shop.tables import Account, Charge, Order, OrderLine, Product, Reservation

from .journal import unfinished

__all__ = ["Books", "audit"]

LIVE_CHARGES = ("charged", "held")
LIVE_RESERVATIONS = ("held", "sold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the databases say. Every field but the last four counts violations; money is in cents."""

    oversold_units: int
    money_without_order: int
    orders_without_money: int
    double_charges: int
    hanging_reservations: int
    unfinished_transactions: int
    wrong_sums: int
    cents_without_order: int
    cents_not_charged: int
    orders: int
    units_sold: int

    @property
    def violations(self) -> int:
        """0 where the shop kept every promise."""
        return (
            self.oversold_units
            + self.money_without_order
            + self.orders_without_money
            + self.double_charges
            + self.hanging_reservations
            + self.unfinished_transactions
            + self.wrong_sums
        )


def audit(places: Places) -> Books:
    """Compare the books of the three services.

    A transaction counts as unfinished where a basket's three traces (reservation, money, order) disagree about
    whether it was bought, or where the journal still lists it.
    """
    orders, sold = _orders(places)
    opening, on_hand, reserved, taken = _stock(places)
    charged, wrong_accounts = _payments(places)
    oversold = sum(max(0, units - opening.get(product, 0)) for product, units in sold.items())
    wrong_shelves = sum(on_hand[product] != opening[product] - taken[product] for product in opening)
    paid = {basket: sum(amounts) for basket, amounts in charged.items()}
    baskets = orders.keys() | reserved | charged.keys()
    half_done = [b for b in baskets if not (b in orders) == (b in reserved) == (b in charged)]
    without_order = [basket for basket in charged if basket not in orders]
    without_money = [basket for basket, cents in orders.items() if paid.get(basket, 0) < cents]
    return Books(
        oversold_units=oversold,
        money_without_order=len(without_order),
        orders_without_money=len(without_money),
        double_charges=sum(len(amounts) > 1 for amounts in charged.values()),
        hanging_reservations=len(reserved - orders.keys()),
        unfinished_transactions=max(len(half_done), unfinished(places)),
        wrong_sums=wrong_shelves + wrong_accounts,
        cents_without_order=sum(paid[basket] for basket in without_order),
        cents_not_charged=sum(orders[basket] - paid.get(basket, 0) for basket in without_money),
        orders=len(orders),
        units_sold=sum(sold.values()),
    )


def _orders(places: Places) -> tuple[dict[int, int], Counter[int]]:
    """Price by basket, and units sold by product, of the placed orders of all shards."""
    orders = dict[int, int]()
    sold = Counter[int]()
    for url in places.orders:
        with opened(url) as database, database.connect() as shard:
            placed = select(Order.basket_id, Order.cents).where(Order.state == "placed")
            for basket, cents in shard.execute(placed):
                orders[basket] = cents
            same = (Order.household_id == OrderLine.household_id) & (Order.basket_id == OrderLine.basket_id)
            lines = select(OrderLine.product_id, OrderLine.quantity).join(Order, same).where(Order.state == "placed")
            for product, quantity in shard.execute(lines):
                sold[product] += quantity
    return orders, sold


def _stock(places: Places) -> tuple[dict[int, int], dict[int, int], set[int], Counter[int]]:
    """Opening and present units by product, the baskets with a live reservation, units they hold by product."""
    opening, on_hand, reserved, taken = dict[int, int](), dict[int, int](), set[int](), Counter[int]()
    with opened(places.stock) as database, database.connect() as stock:
        for product, first, now in stock.execute(select(Product.product_id, Product.opening, Product.on_hand)):
            opening[product], on_hand[product] = first, now
        live = select(Reservation.basket_id, Reservation.units).where(Reservation.state.in_(LIVE_RESERVATIONS))
        for basket, units in stock.execute(live):
            reserved.add(basket)
            taken.update({int(product): quantity for product, quantity in units.items()})
    return opening, on_hand, reserved, taken


def _payments(places: Places) -> tuple[dict[int, list[int]], int]:
    """The live charges of each basket, and how many accounts do not show what their charges say."""
    charged = defaultdict[int, list[int]](list)
    spent = Counter[int]()
    with opened(places.payments) as database, database.connect() as payments:
        live = select(Charge.basket_id, Charge.household_id, Charge.cents).where(Charge.state.in_(LIVE_CHARGES))
        for basket, household, cents in payments.execute(live):
            charged[basket].append(cents)
            spent[household] += cents
        accounts = payments.execute(select(Account.household_id, Account.opening, Account.balance)).all()
    return dict(charged), sum(balance != first - spent[house] for house, first, balance in accounts)
