from __future__ import annotations

import io
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from examples.shop.replay.audit import Books
from examples.shop.replay.customers import Served, read_answer
from examples.shop.replay.faults import Kind
from examples.shop.replay.report import change_size, write_report
from examples.shop.replay.run import Outcome
from examples.shop.replay.table import measures, result_table

BOOKS = Books(
    oversold_units=3,
    money_without_order=1,
    orders_without_money=0,
    double_charges=0,
    hanging_reservations=0,
    unfinished_transactions=0,
    wrong_sums=0,
    cents_without_order=1_234,
    cents_not_charged=66,
    orders=2,
    units_sold=9,
)
OUTCOME = Outcome(
    shop="naive",
    served=Served(
        answers=Counter({"ordered": 2, "sold out": 1, "no answer": 1}),
        finished_at=array("d", [0.5, 1.0, 1.5, 2.0]),
        seconds=array("d", [0.1, 0.4, 0.2, 0.3]),
        catalogue=Counter(live=1),
        began=10.0,
        ended=12.0,
    ),
    books=BOOKS,
    met={Kind.REPLY_CUT: 4},
    kills=[("orders", 1.2)],
    settled=0.1,
)
CLEAN = replace(OUTCOME, shop="protected", books=replace(BOOKS, oversold_units=0, money_without_order=0))


def test_violations_are_the_sum_of_the_broken_promises() -> None:
    assert (BOOKS.violations, CLEAN.books.violations) == (4, 0)


def test_the_table_shows_what_was_measured() -> None:
    assert measures(OUTCOME) == {
        "dollars at stake": "13.00",
        "orders placed": "2",
        "baskets refused (sold out / no money)": "1 / 0",
        "baskets told to try later, or not answered": "1",
        "requests per second": "2.0",
        "p50 latency": "300 ms",
        "p99 latency": "400 ms",
    }
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(result_table([OUTCOME, CLEAN]))
    row = next(line for line in console.export_text().splitlines() if "units oversold" in line)
    assert row.split("│")[2:4] == ["      3 ", "         0 "]


def test_the_report_is_one_page_that_tells_the_same(tmp_path: Path) -> None:
    write_report([OUTCOME, CLEAN], tmp_path / "deep" / "report.html", "4 <baskets>")
    page = (tmp_path / "deep" / "report.html").read_text()
    assert "4 &lt;baskets&gt;" in page
    assert '<tr><th>units oversold</th><td class="bad">3</td><td class="good">0</td></tr>' in page
    assert f"<tr><th>{Kind.REPLY_CUT.value}</th><td>4</td><td>4</td></tr>" in page
    assert page.count("<svg") == 4
    added, removed = change_size()
    assert f"{added} lines added, {removed} removed" in page
    assert 0 < added < 250


@pytest.mark.parametrize(
    ("status", "text", "meaning"),
    [
        (201, "{}", "ordered"),
        (409, '{"detail": "product 9 is sold out"}', "sold out"),
        (409, '{"detail": "branch 2 refused: household 8 cannot pay 3 cents"}', "payment refused"),
        (422, "{}", "invalid basket"),
        (409, '{"title": "Still in flight"}', "failed with 409"),
        (503, "", "failed with 503"),
    ],
)
def test_a_customer_understands_the_answers_of_both_shops(status: int, text: str, meaning: str) -> None:
    assert read_answer(httpx.Response(status, text=text)) == meaning
