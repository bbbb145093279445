"""Tasks that fail."""

from collections.abc import Iterable

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import sink


@pytest.fixture(autouse=True)
def _full_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_channel: str, _lines: Iterable[str]) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "write", refuse)


def test_write_that_fails_raises_in_its_task(client: TestClient) -> None:
    with pytest.raises(OSError, match="No space left"):
        client.post("/log/", params={"message": "lost"})


def test_client_is_answered_before_its_task_fails(client: TestClient) -> None:
    client = TestClient(client.app, raise_server_exceptions=False)

    assert client.post("/log/", params={"message": "lost"}).status_code == 200
