"""Requests that Schemathesis generates from the OpenAPI document. docs/guarantees.md has a row for each test."""

import subprocess
from pathlib import Path

import pytest
from conftest import Installed, few_variants
from serving import serve

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,negative_data_rejection,unsupported_method"
)


@pytest.mark.faults
@pytest.mark.parametrize("installed", few_variants(), indirect=True)
def test_answers_keep_to_the_schema(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, "--no-access-log") as service:
        command = ["schemathesis", "run", f"{service.url}/openapi.json", "--checks", CHECKS, "--max-examples=50"]
        result = subprocess.run([*command, "--no-color"], cwd=tmp_path, capture_output=True, encoding="utf-8")

    assert result.returncode == 0, result.stdout + result.stderr
