"""Tasks that fail{{ ", and tasks that have to wait" if cookiecutter.sink == "stdout" }}."""

{% if cookiecutter.sink == "stdout" %}
import threading
{% endif %}
from typing import NoReturn

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import sink


@pytest.fixture
def _full_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "write", refuse)


@pytest.mark.usefixtures("_full_sink")
def test_write_that_fails_raises_in_its_task(client: TestClient) -> None:
    with pytest.raises(OSError, match="No space left"):
        client.post("/log/", params={"message": "lost"})


@pytest.mark.usefixtures("_full_sink")
def test_client_is_answered_before_its_task_fails(client: TestClient) -> None:
    client = TestClient(client.app, raise_server_exceptions=False)

    assert client.post("/log/", params={"message": "lost"}).status_code == 200
{% if cookiecutter.sink == "stdout" %}


def test_only_a_thread_waits_for_the_sink(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, int] = {}

    def write(_channel: str, line: str, *, wait: bool = True) -> None:
        if not wait:
            written["loop"] = threading.get_ident()
            raise BlockingIOError
        written[line] = threading.get_ident()

    monkeypatch.setattr(sink, "write", write)
    client.post("/log/", params={"message": "hello"})

    assert written["hello"] != written["loop"]
{% endif %}
