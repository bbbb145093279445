"""Pages for people."""

import re

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }}.settings import settings


def test_index_leads_to_the_documentation(client: TestClient) -> None:
    response = client.get("/")

    assert response.status_code == 200
    assert response.url.path == "/docs"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_name_of_the_service_is_text(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(settings, "service_name", "</title><script>alert(1)</script>")
    response = client.get(path)

    assert "<title>&lt;/title&gt;&lt;script&gt;alert(1)" in response.text
    (scripts,) = re.findall("script-src (.*?);", response.headers["Content-Security-Policy"])
    assert re.fullmatch("'self'( 'sha256-[^ ]+')?", scripts.strip())
