"""The whole demo: both shops one after the other, a progress bar, the table, the report."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from examples.shop.places import Places

from .data import CACHE, Replay
from .report import change_size, write_report
from .run import MakePlaces, Outcome, Shop, run
from .table import result_table

__all__ = ["Demo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What to replay, where, and against which shops."""

    engines: Literal["embedded", "docker"]
    baskets: int
    seed: int
    shops: tuple[Shop, ...]
    out: Path

    async def run(self) -> bool:
        """Run it; False where the protected shop broke a promise."""
        console = Console()
        replay = Replay(count=self.baskets, seed=self.seed, cache=CACHE)
        about = f"{self.baskets:,} real grocery baskets, 32 at a time, seed {self.seed}, {self.engines} engines"
        with ExitStack() as stack:
            make_places = self._engines(console, stack)
            with console.status("reading the baskets"):
                opening = replay.opening()
            bar = Progress(
                TextColumn("{task.description:>9}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            outcomes = list[Outcome]()
            with bar:
                for shop in self.shops:
                    task = bar.add_task(shop, total=self.baskets)

                    def answered(baskets: int, task: object = task) -> None:
                        bar.update(task, completed=baskets)  # type: ignore[arg-type]  # rich's TaskID

                    outcomes.append(await run(shop, replay, opening, self.out / shop, make_places, answered))
        self._tell(console, outcomes, about)
        return all(outcome.books.violations == 0 for outcome in outcomes if outcome.shop == "protected")

    def _engines(self, console: Console, stack: ExitStack) -> MakePlaces:
        if self.engines == "embedded":
            return lambda folder, stock, payments: Places.embedded(
                folder, stock_service=stock, payments_service=payments
            )
        from .engines import on_servers

        with console.status("starting Redis, PostgreSQL and MariaDB"):
            return stack.enter_context(on_servers())

    def _tell(self, console: Console, outcomes: list[Outcome], about: str) -> None:
        console.print(f"[bold]{about}[/]")
        console.print(result_table(outcomes))
        added, removed = change_size()
        console.print(f"from naive to protected: {added} lines added, {removed} removed")
        write_report(outcomes, self.out / "report.html", about)
        books = {outcome.shop: {**asdict(outcome.books), "answers": outcome.served.answers} for outcome in outcomes}
        (self.out / "result.json").write_text(json.dumps({"about": about, "books": books}, indent=2))
        console.print(f"report: {self.out / 'report.html'}")
