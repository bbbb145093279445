"""Refuses answers that would give a broken project, and a folder that is in use.

Cookiecutter renders this file and runs it in the project's folder before it writes there. If the exit status is not 0,
Cookiecutter stops, and removes the folder if it made it. Only the standard library is available.
"""

import json
import re
import sys
from pathlib import Path

# JSON in a raw string: valid Python before rendering too, and no answer is ever executed.
ANSWER_FAULTS = r"""
{{ cookiecutter | answer_faults | jsonify }}
"""


def folder_faults(folder: Path) -> list[str]:
    """Return a line for each reason why the project cannot be written to `folder`."""
    faults = []
    # With --overwrite-if-exists, the post-generation hook would rename and delete files of others.
    if any(folder.iterdir()):
        faults.append(f"{folder}: the folder is not empty; generate elsewhere, or update the project with cruft")
    # Cookiecutter renders the whole path of each folder that it makes.
    if re.search("{[%#{]", str(folder)):
        reason = "the path contains { followed by {, % or #, which Cookiecutter renders"
        faults.append(f"{folder}: {reason}; generate elsewhere")
    return faults


def main() -> int:
    """Print each fault to standard error, and return the exit status."""
    faults = json.loads(ANSWER_FAULTS) + folder_faults(Path.cwd())
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
