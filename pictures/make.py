"""Makes pictures of a terminal for the README: `uv run --group pictures python pictures/make.py`.

The output is real: a pseudo-terminal generates a project, its server runs, and curl sends it requests. Text that
differs from run to run is replaced, so that the same output gives the same pictures.
"""

import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
# For a clean environment and a free port.
sys.path.append(str(HERE.parent / "tests"))

from conftest import ENVIRONMENT, PROMPTS, TEMPLATE  # noqa: E402
from serving import free_port, wait_for  # noqa: E402

WIDTH = 110
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH), "LC_ALL": "C.UTF-8"}
# Answers typed at prompts; the others get Enter.
ANSWERS = {"project_name": "Order Desk", "sink": "1", "engine": "1"}
REQUESTS = (
    "curl -X POST 'http://127.0.0.1:8000/log/?message=hello'",
    "curl -X POST 'http://127.0.0.1:8000/complex-task/'",
    "curl -X POST 'http://127.0.0.1:8000/service-event/?event=started'",
)
# The record files that these requests write.
WRITTEN = {"log", "task_log", "emails", "service_log"}
# Rich's own format loads fonts from a server; these pictures need no network.
FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px "Fira Code", Menlo, Consolas, monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def prompt(command: str) -> str:
    """Return a command as a shell shows it."""
    return f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m\n"


def spawn(*command: str, folder: Path, **environment: str) -> pexpect.spawn:
    """Start a command in a pseudo-terminal as wide as the picture."""
    # The hook prints a path relative to PWD.
    variables = ENVIRONMENT | TERMINAL | {"PWD": str(folder)} | environment
    program, *arguments = command
    size = (50, WIDTH)
    return pexpect.spawn(program, arguments, 60, cwd=str(folder), env=variables, dimensions=size, encoding="utf-8")


def rest(terminal: pexpect.spawn) -> str:
    """Return the output until the command ends; raises RuntimeError if it fails."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    if terminal.exitstatus != 0:
        raise RuntimeError(f"{terminal.args} failed:\n{terminal.before}")
    return terminal.before


def generate(folder: Path) -> str:
    """Generate a project in `folder`, and return the terminal's output."""
    config = folder / "config.yaml"
    kept = {"cookiecutters_dir": str(folder / "templates"), "replay_dir": str(folder / "replay")}
    config.write_text(json.dumps(kept), encoding="utf-8")
    command = (str(Path(sys.prefix) / "bin" / "cookiecutter"), str(TEMPLATE))
    terminal = spawn(*command, folder=folder, COOKIECUTTER_CONFIG=str(config), TMPDIR=str(folder))
    shown = prompt("uvx cookiecutter .")
    for question in PROMPTS:
        # The default in parentheses, an optional end of its colour, and a colon.
        terminal.expect(r"\)\S*: ")
        shown += terminal.before + terminal.after
        terminal.sendline(ANSWERS.get(question, ""))
    return shown + rest(terminal)


@contextmanager
def serve(project: Path, port: int) -> Iterator[str]:
    """Run the project's server until the block ends; yields what its terminal shows once it has started."""
    terminal = spawn("uv", "run", "uvicorn", "order_desk.main:app", "--port", str(port), folder=project)
    try:
        terminal.expect(r"Press CTRL\+C to quit\)\r\n")
        yield prompt("uv run uvicorn order_desk.main:app") + terminal.before + terminal.after
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)


def run(project: Path) -> str:
    """Start the server, send it requests, and return the output of two terminals."""
    port = free_port()

    def shell(command: str) -> str:
        """Run a command and return it with its output."""
        here = command.replace(":8000", f":{port}")
        return prompt(command) + rest(spawn("sh", "-c", here, folder=project)).rstrip() + "\n"

    def written() -> bool:
        """Return whether the tasks are done."""
        return {file.stem for file in (project / "records").iterdir() if file.stat().st_size} == WRITTEN

    # Its messages about packages depend on the machine, so it runs first.
    subprocess.run(["uv", "sync", "--quiet"], cwd=project, env=ENVIRONMENT, check=True)
    with serve(project, port) as shown:
        shown += "\n\x1b[2m# in a second terminal\x1b[0m\n" + "".join(map(shell, REQUESTS))
        wait_for(written, "the tasks")
        shown += shell("tail records/*.txt") + shell("curl http://127.0.0.1:8000/health/ready")
    return re.sub(rf"(?<=127\.0\.0\.1:){port}\b", "8000", shown)


def draw(shown: str, name: str) -> None:
    """Write a picture of the output, with fixed values for times and process ids."""
    shown = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "2026-01-05 09:30:00,000", shown)
    shown = re.sub(r"(?<=server process \[)\d+", "4321", shown)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(shown.replace("\r\n", "\n").rstrip()))
    picture = console.export_svg(title="Order Desk", code_format=FORMAT, unique_id=name)
    (HERE / f"{name}.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    """Generate a project, run it, and write both pictures."""
    with tempfile.TemporaryDirectory() as name:
        draw(generate(Path(name)), "generate")
        draw(run(Path(name) / "order-desk"), "run")


if __name__ == "__main__":
    main()
