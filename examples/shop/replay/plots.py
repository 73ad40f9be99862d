"""The four plots of the report, as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import matplotlib as mpl

mpl.use("svg")  # before pyplot is imported: no display is needed

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .run import Outcome
from .table import VIOLATIONS

__all__ = ["plots"]

COLOURS = {"naive": "#c2410c", "protected": "#15803d"}


def plots(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """Pairs of an SVG element and its caption."""
    for draw, caption in (
        (_violations, "Promises broken, read from the databases. A shop without a bar broke none."),
        (_latency, "Share of the purchases that were answered within a time, retries included."),
        (
            _throughput,
            "Purchases answered in each second. Dashed: a kill (payments grey, orders black).",
        ),
        (_answers, "What the customers were told."),
    ):
        with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "backstay", "font.size": 9}):
            figure, axes = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes, outcomes)
            axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
            out = io.StringIO()
            figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
            plt.close(figure)
        svg = out.getvalue()
        yield svg[svg.index("<svg") :], caption


def _violations(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    names = list(VIOLATIONS)
    height = 0.8 / len(outcomes)
    for n, outcome in enumerate(outcomes):
        counts = [VIOLATIONS[name](outcome.books) for name in names]
        places = [row + n * height for row in range(len(names))]
        bars = axes.barh(places, counts, height, color=COLOURS[outcome.shop], label=outcome.shop)
        axes.bar_label(bars, padding=3)
    axes.set_yticks([row + height * (len(outcomes) - 1) / 2 for row in range(len(names))], names)
    axes.invert_yaxis()
    axes.margins(x=0.12)


def _latency(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        shares = [n / 500 for n in range(500)]
        axes.plot(outcome.served.percentiles(*shares), shares, color=COLOURS[outcome.shop], label=outcome.shop)
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("share answered")


def _throughput(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        finished = outcome.served.finished_at
        width = max(1, round(max(finished) / 120))
        counts = [0] * (int(max(finished)) // width + 1)
        for at in finished:
            counts[int(at) // width] += 1
        seconds = [n * width for n in range(len(counts))]
        axes.step(seconds, [c / width for c in counts], where="post", color=COLOURS[outcome.shop], label=outcome.shop)
        for service, at in outcome.kills:
            colour = "black" if service == "orders" else "grey"
            axes.axvline(at, color=colour, linestyle="--", linewidth=0.6, alpha=0.7)
    axes.set_xlabel("seconds since the first customer")
    axes.set_ylabel("answers per second")
    axes.set_ylim(bottom=0)


def _answers(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    kinds = sorted(set[str]().union(*(o.served.answers for o in outcomes)))
    height = 0.8 / len(outcomes)
    for n, outcome in enumerate(outcomes):
        places = [row + n * height for row in range(len(kinds))]
        counts = [outcome.served.answers[kind] for kind in kinds]
        bars = axes.barh(places, counts, height, color=COLOURS[outcome.shop], label=outcome.shop)
        axes.bar_label(bars, padding=3)
    axes.set_yticks([row + height * (len(outcomes) - 1) / 2 for row in range(len(kinds))], kinds)
    axes.invert_yaxis()
    axes.margins(x=0.12)
