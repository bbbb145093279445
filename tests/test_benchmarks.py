"""What the README says of speed is what was measured."""

import json
import runpy

from conftest import TEMPLATE

report = runpy.run_path(str(TEMPLATE / "benchmarks" / "report.py"))


def test_readme_tells_what_was_measured() -> None:
    result = json.loads((TEMPLATE / "benchmarks" / "result.json").read_text(encoding="utf-8"))
    readme = (TEMPLATE / "README.md").read_text(encoding="utf-8")

    assert f"{report['BEGIN']}\n{report['table'](result)}\n{report['END']}" in readme
    assert (TEMPLATE / "benchmarks" / "plot.svg").is_file()
