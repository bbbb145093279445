"""Every command in the README of a generated project works, and each example does what the README says."""

import json
import re
import sys
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import Bake, few_variants_first
from serving import wait_for
from shell import SERVERS, Shell, commands

MONITOR_PAGES = {"background": [], "celery": ["/", "/tasks", "/broker"], "rq": ["/"]}
# Requests that any page in a browser could send to a monitor, and a word of the refusal.
MONITOR_ATTACKS = {
    "celery": ("/api/worker/shutdown/celery@localhost", "FLOWER_UNAUTHENTICATED_API"),
    "rq": ("/queue/default/failed/empty", "DISABLED"),
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the README is written for a POSIX shell")


@pytest.mark.parametrize("variant", few_variants_first())
def test_commands_and_examples(bake: Bake, tmp_path: Path, variant: tuple[str, str]) -> None:
    sink, engine = variant
    project = bake(sink=sink, engine=engine)
    readme = (project / "README.md").read_text(encoding="utf-8")
    replies: list[str] = []

    def written(place: str) -> list[str]:
        if sink == "file":
            file = project / place
            return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        output = [line for server in shell.servers.values() for line in server.output if line.startswith("{")]
        return [record["line"] for record in map(json.loads, output) if record.get("channel") == place]

    with closing(Shell(project, tmp_path)) as shell:
        for command in commands(readme):
            if SERVERS.search(command):
                shell.start(command)
            elif command.startswith("curl "):
                replies.append(shell.run(f"{command} --silent --show-error"))
            # There may be no container engine here, and tests/service/test_project.py runs the tests and checks.
            elif command not in ("docker compose up --build", "uv run pytest", "uv run poe lint"):
                shell.run(command)
        for page in MONITOR_PAGES[engine]:
            assert urlopen(f"http://127.0.0.1:{shell.monitor}{page}").status == 200
        if engine in MONITOR_ATTACKS:
            path, answer = MONITOR_ATTACKS[engine]
            attack = f"curl --silent -X POST http://127.0.0.1:{shell.monitor}{path}"
            assert answer in shell.run(attack)

        examples = readme.partition("\n## Examples\n")[2].partition("\n## ")[0]
        rows = [
            [cell.strip(" `") for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*`.*\|$", examples, re.M)
        ]
        assert len(rows) == 5
        assert [answer for _, answer, _, _ in rows if answer] == replies
        for _, _, text, place in rows:
            line = re.sub(r"^and only then |[`\\]|,$", "", text)
            wait_for(lambda line=line, place=place: line in written(place), f"{line} in {place}")
