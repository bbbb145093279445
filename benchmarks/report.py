"""The table of what was measured."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

# What is measured, its key among the ratios, the least (or the most) that is wanted, and what is aimed for.
OF_SINK = [
    ("`/log/`: requests/s ÷ an endpoint that does nothing", "/log/ rate / no-op", "≥ 0.65", "0.9"),
    ("`/log/`: requests/s ÷ the textbook's", "/log/ rate / textbook", "≥ 2.5", "4"),
    ("`/log/`: 99th percentile of latency ÷ the textbook's", "/log/ p99 / textbook", "≤ 0.15", "0.05"),
    ("`/log/`: CPU time a request ÷ an endpoint that does nothing", "/log/ CPU / no-op", "≤ 1.6", "1.15"),
    ("`/complex-task/`: requests/s ÷ the textbook's", "/complex-task/ rate / textbook", "≥ 2.5", "4"),
]
OF_ENGINE = [
    ("`/log/`: requests/s ÷ a tutorial's on the same engine", "/log/ rate / tutorial", "≥ 1.0", "1.5"),
    ("worker: tasks/s ÷ the bare engine with an empty task", "worker rate / bare engine", "≥ 0.8", "0.95"),
]
OF_START = ("from the start to the first 200 ÷ an application of one route", "start / one route", "≤ 1.3", "1.1")
SCAFFOLDING = ("`cookiecutter --no-input` ÷ a template of one file", "scaffolding / one file", "≤ 1.3", "1.15")


def ratio_rows(ratios: dict[str, float]) -> Iterator[tuple[str, str, str, str]]:
    """The rows of the ratios that were measured: what, wanted, aimed for, measured."""
    wanted = [
        *((sink, row) for sink in ("file", "stdout") for row in OF_SINK),
        *((engine, row) for engine in ("celery", "rq") for row in OF_ENGINE),
        ("background", OF_START),
        *((engine, (OF_START[0], OF_START[1], "", "")) for engine in ("celery", "rq")),
    ]
    for variant, (what, key, least, aim) in wanted:
        if f"{variant}: {key}" in ratios:
            yield f"{variant}, {what}", least, aim, f"{ratios[f'{variant}: {key}']:.2f}"
    what, key, least, aim = SCAFFOLDING
    if key in ratios:
        yield what, least, aim, f"{ratios[key]:.2f}"


def count_rows(result: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """The rows of what was counted rather than compared."""
    for key, counted in result.items():
        if key.startswith("endurance: "):
            sink, processes = key.removeprefix("endurance: ").split(", ")
            of = f"{sink}, {processes} process{'es' if processes != '1' else ''}"
            bad = counted["lost"] + counted["torn or merged"]
            growth = counted["growth of memory in MB"]
            yield f"{of}: lines lost or torn after {counted['answered']:,} requests", "0", "0", str(bad)
            yield f"{of}: growth of memory in their last four fifths", "< 5 MB", "flat", f"{growth:.1f} MB"
    if "full product in s" in result:
        yield (
            "the template's tests: rendering and checking the full product",
            "",
            "< 60 s",
            f"{result['full product in s']:.0f} s",
        )


def table(result: dict[str, Any]) -> str:
    """Everything that was measured, beside what is wanted, as a table in Markdown."""
    head = [("measured", "wanted", "aimed for", "figure"), ("---", "---", "---", "---:")]
    rows = [*head, *ratio_rows(result["ratios"]), *count_rows(result)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_to_readme(result: dict[str, Any], readme: Path) -> None:
    """Put the table between the README's two marks."""
    text = readme.read_text(encoding="utf-8")
    replaced = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table(result)}\n{END}", text, flags=re.DOTALL)
    readme.write_text(replaced, encoding="utf-8")
