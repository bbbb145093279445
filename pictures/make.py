"""Makes pictures of a terminal for the README: `uv run --group pictures python pictures/make.py`.

They show what was really said: a project is generated in a pseudo-terminal, its server runs, and curl asks it. Only
what differs from run to run is replaced, so that the same output gives the same pictures.
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
# The tests know what a person's shell has, and how to find a free port.
sys.path.append(str(HERE.parent / "tests"))

from conftest import ENVIRONMENT, PROMPTS, TEMPLATE  # noqa: E402
from serving import free_port, wait_for  # noqa: E402

WIDTH = 110
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH), "LC_ALL": "C.UTF-8"}
# What is typed at a prompt, besides Enter.
ANSWERS = {"project_name": "Order Desk", "sink": "1", "engine": "1"}
REQUESTS = (
    "curl -X POST 'http://127.0.0.1:8000/log/?message=hello'",
    "curl -X POST 'http://127.0.0.1:8000/complex-task/'",
    "curl -X POST 'http://127.0.0.1:8000/service-event/?event=started'",
)
# The files of records that these requests write to.
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
    """A command as a terminal shows it once it is typed, in the colours that many a shell has."""
    return f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m\n"


def spawn(*command: str, folder: Path, **environment: str) -> pexpect.spawn:
    """Start a command in a pseudo-terminal as wide as the picture, so that it wraps and colours as for a reader."""
    # The hook says where the project is, as seen from the folder that a shell names by PWD.
    variables = ENVIRONMENT | TERMINAL | {"PWD": str(folder)} | environment
    program, *arguments = command
    size = (50, WIDTH)
    return pexpect.spawn(program, arguments, 60, cwd=str(folder), env=variables, dimensions=size, encoding="utf-8")


def rest(terminal: pexpect.spawn) -> str:
    """What a command shows until it ends; raises RuntimeError if it fails, so that no picture shows a failure."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    if terminal.exitstatus != 0:
        raise RuntimeError(f"{terminal.args} failed:\n{terminal.before}")
    return terminal.before


def generate(folder: Path) -> str:
    """Generate a project below `folder`, touching nothing outside of it, and return what the terminal showed."""
    config = folder / "config.yaml"
    kept = {"cookiecutters_dir": str(folder / "templates"), "replay_dir": str(folder / "replay")}
    config.write_text(json.dumps(kept), encoding="utf-8")
    command = (str(Path(sys.prefix) / "bin" / "cookiecutter"), str(TEMPLATE))
    terminal = spawn(*command, folder=folder, COOKIECUTTER_CONFIG=str(config), TMPDIR=str(folder))
    shown = prompt("uvx cookiecutter .")
    for question in PROMPTS:
        # A default in parentheses, perhaps the end of its colour, and the colon that waits for an answer.
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
    """Start the project's server, send it requests, and return what two terminals show."""
    port = free_port()

    def shell(command: str) -> str:
        """Run a command as a shell does and return it with its output, whose last line curl leaves open."""
        here = command.replace(":8000", f":{port}")
        return prompt(command) + rest(spawn("sh", "-c", here, folder=project)).rstrip() + "\n"

    def written() -> bool:
        """Whether the tasks are done: requests are answered before."""
        return {file.stem for file in (project / "logs").iterdir() if file.stat().st_size} == WRITTEN

    # Beforehand, because what it says about packages depends on the machine.
    subprocess.run(["uv", "sync", "--quiet"], cwd=project, env=ENVIRONMENT, check=True)
    with serve(project, port) as shown:
        shown += "\n\x1b[2m# in a second terminal\x1b[0m\n" + "".join(map(shell, REQUESTS))
        wait_for(written, "the tasks")
        shown += shell("tail logs/*.txt") + shell("curl http://127.0.0.1:8000/health/ready")
    return re.sub(rf"(?<=127\.0\.0\.1:){port}\b", "8000", shown)


def draw(shown: str, name: str) -> None:
    """Write what a terminal showed as a picture, with fixed values for what differs from run to run."""
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
