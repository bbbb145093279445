"""What the README says of speed is what was measured."""

import json
import runpy

import pytest
from conftest import TEMPLATE

report = runpy.run_path(str(TEMPLATE / "benchmarks" / "report.py"))


def test_readme_tells_what_was_measured() -> None:
    result = json.loads((TEMPLATE / "benchmarks" / "result.json").read_text(encoding="utf-8"))
    readme = (TEMPLATE / "README.md").read_text(encoding="utf-8")

    assert f"{report['BEGIN']}\n{report['tables'](result)}\n{report['END']}" in readme
    assert (TEMPLATE / "benchmarks" / "plot.svg").is_file()


@pytest.mark.parametrize(
    ("figure", "wanted", "missed"),
    [(0.64, "≥ 0.65", True), (0.65, "≥ 0.65", False), (1.31, "≤ 1.3", True), (5, "< 5", False), (0, "", False)],
)
def test_misses_are_marked(figure: float, wanted: str, missed: bool) -> None:
    assert report["missed"](figure, wanted) == missed
