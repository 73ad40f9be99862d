"""The command line of the demo: `python -m examples.shop --help`."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from examples.shop.replay.data import BASKETS
from examples.shop.replay.demo import Demo


class Engines(StrEnum):
    """Where the databases, locks and limits live."""

    embedded = "embedded"
    docker = "docker"


class Only(StrEnum):
    """Run one of the two shops instead of both."""

    naive = "naive"
    protected = "protected"


def main(
    engines: Annotated[
        Engines, typer.Option(help="SQLite files and in-process stores, or real servers")
    ] = Engines.embedded,
    baskets: Annotated[int, typer.Option(min=1, max=BASKETS, help="how many real baskets to replay")] = 2_000,
    seed: Annotated[int, typer.Option(help="chooses the baskets, the poor households and every fault")] = 1,
    full: Annotated[bool, typer.Option("--full", help=f"replay all {BASKETS:,} baskets")] = False,
    only: Annotated[Only | None, typer.Option(help="run one shop only")] = None,
    out: Annotated[Path, typer.Option(help="folder of the databases and the report")] = Path("build/demo"),
) -> None:
    """Replay real grocery baskets against a naive and a protected shop, with the same faults, and compare the books.

    Ends with status 1 if the protected shop broke any promise.
    """
    demo = Demo(
        engines=engines.value,
        baskets=BASKETS if full else baskets,
        seed=seed,
        shops=(only.value,) if only else ("naive", "protected"),
        out=out,
    )
    raise typer.Exit(0 if asyncio.run(demo.run()) else 1)


if __name__ == "__main__":
    typer.run(main)
