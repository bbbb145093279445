"""The tables of figures, in Markdown."""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = tuple[str, ...]

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

# Each row: its name, its key among the ratios, the limit that is wanted, and the aim.
OF_SINK = [
    ("`/log/`: requests/s ÷ a bare no-op", "/log/ rate / no-op", "≥ 0.75", "0.9"),
    ("`/log/`: requests/s ÷ the textbook's", "/log/ rate / textbook", "≥ 2.5", "4"),
    ("`/log/`: requests/s whose tasks are done ÷ the textbook's", "/log/ done / textbook", "", ""),
    ("`/log/`: 99th percentile of latency ÷ the textbook's", "/log/ p99 / textbook", "≤ 0.15", "0.05"),
    ("`/log/`: CPU time per request ÷ a bare no-op", "/log/ CPU / no-op", "≤ 1.25", "1.15"),
    ("`/complex-task/`: requests/s ÷ the textbook's", "/complex-task/ rate / textbook", "≥ 2.5", "4"),
]
OF_ASYNC = ("`/log/`: requests/s ÷ the textbook's with `async def` and no more", "/log/ rate / async", "", "")
OF_ENGINE = [
    ("`/log/`: requests/s ÷ a tutorial's on the same engine", "/log/ rate / tutorial", "≥ 1.0", "1.5"),
    ("worker: tasks/s ÷ the bare engine with an empty task", "worker rate / bare engine", "≥ 0.8", "0.95"),
]
OF_START = (
    "time from the start to the first 200 ÷ that of an application with one route",
    "start / one route",
    "≤ 1.3",
    "1.1",
)
SCAFFOLDING = ("`cookiecutter --no-input` ÷ a template of one file", "scaffolding / one file", "≤ 1.3", "1.15")


def missed(figure: float, wanted: str) -> bool:
    """Whether a figure misses the limit `wanted`, for instance `≥ 0.65`; an empty limit is never missed."""
    if not wanted:
        return False
    limit = float(wanted[2:])
    return figure < limit if wanted.startswith("≥") else figure > limit


def marked(text: str, figure: float, wanted: str) -> str:
    """The text of a figure, with a mark if it misses the limit."""
    return f"{text} ✗" if missed(figure, wanted) else text


def ratio_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The rows of ratios: the median, and the lowest and highest of the rounds."""
    of_variants = [
        *(("file", row) for row in [*OF_SINK, OF_ASYNC]),
        *(("stdout", row) for row in OF_SINK),
        *((engine, row) for engine in ("celery", "rq") for row in OF_ENGINE),
        ("background", OF_START),
        *((engine, (OF_START[0], OF_START[1], "", "")) for engine in ("celery", "rq")),
    ]
    rows = [
        (f"{variant}, {what}", f"{variant}: {key}", wanted, aim) for variant, (what, key, wanted, aim) in of_variants
    ]
    for what, key, wanted, aim in [*rows, SCAFFOLDING]:
        if key in result["ratios"]:
            figure, rounds = result["ratios"][key], result["rounds"][key]
            told = marked(f"{figure:.2f}", figure, wanted)
            yield what, wanted, aim, told, f"{min(rounds):.2f} to {max(rounds):.2f}"


def count_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The rows of counts."""
    for key, counted in result.items():
        if key.startswith("endurance: "):
            sink, processes = key.removeprefix("endurance: ").split(", ")
            of = f"{sink}, {processes} process{'es' if processes != '1' else ''}"
            bad = counted["lost"] + counted["torn or merged"]
            growth = counted["growth of memory in MB"]
            told = marked(str(bad), bad, "≤ 0")
            yield f"{of}: lines lost or torn after {counted['answered']:,} requests", "0", "0", told, ""
            told = marked(f"{growth:.1f} MB", growth, "< 5")
            yield f"{of}: growth of memory during the last four fifths of the requests", "< 5 MB", "flat", told, ""
    if "full product in s" in result:
        yield (
            "the template's tests: rendering and checking the full product",
            "",
            "< 60 s",
            f"{result['full product in s']:.0f} s",
            "",
        )


def load_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The rows of absolute figures: medians of the rounds."""
    for name, loads in result["figures"].items():
        if isinstance(loads[0], dict):
            median = {key: statistics.median(load[key] for load in loads) for key in loads[0]}
            yield name, *(f"{median[key]:,.0f}" for key in ("rate", "done", "p50", "p99", "cpu"))


def markdown(*rows: Row) -> str:
    """A table; the first row is its head."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---", *["---:"] * (len(head) - 1)), *body))


def tables(result: dict[str, Any]) -> str:
    """All ratios and counts, and the loads behind them."""
    figures = markdown(
        ("measured", "limit", "goal", "figure", "range over rounds"), *ratio_rows(result), *count_rows(result)
    )
    loads = markdown(
        ("load", "requests/s", "with tasks done", "median, ms", "99 %, ms", "CPU, µs per request"), *load_rows(result)
    )
    return f"{figures}\n\n{loads}"


def write_to_page(result: dict[str, Any], page: Path) -> None:
    """Put the tables between the two marks of a page."""
    text = page.read_text(encoding="utf-8")
    replaced = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{tables(result)}\n{END}", text, flags=re.DOTALL)
    page.write_text(replaced, encoding="utf-8")
