"""How a service starts, follows its settings, runs in several processes, and stops."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import Installed, few_variants, few_variants_first, variants
from loads import flood
from serving import SCHEDULE, SERVER, WORKER, refused_start, serve, wait_for

each_engine = pytest.mark.parametrize("installed", few_variants(), indirect=True)
in_process = pytest.mark.parametrize("installed", variants(engines=["background"]), indirect=True)


@each_engine
def test_settings_are_followed(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, SERVICE_NAME="Ünï 🚀", OPERATOR_EMAIL="ops@example.com") as service:
        service.post("/service-event/?event=x")
        service.post("/complex-task/")

        service.expect("service_log", "[Ünï 🚀] x")
        service.expect("emails", "Email to ops@example.com: Your task is complete!")


@each_engine
def test_bad_settings_stop_the_start(installed: Installed, tmp_path: Path) -> None:
    status, said = refused_start(
        installed, tmp_path, *SERVER, "--port=0", OPERATOR_EMAIL="nobody", SERVICE_NAME="x" * 81
    )

    assert status != 0
    assert said.startswith("Cannot start: SERVICE_NAME: ")
    assert "; OPERATOR_EMAIL: " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("installed", variants(["file"], ["celery", "rq"]), indirect=True)
@pytest.mark.parametrize("commands", [{}, WORKER, SCHEDULE], ids=["server", "worker", "schedule"])
def test_bad_settings_stop_each_process(installed: Installed, tmp_path: Path, commands: dict[str, Any]) -> None:
    command = commands.get(installed.engine, SERVER)
    status, said = refused_start(installed, tmp_path, *command, REDIS_URL="redis://localhost/0?socket_timeout=abc")
    assert status == 3
    assert re.fullmatch("Cannot start: REDIS_URL: .*\n", said)

    (tmp_path / ".env").write_text("\nSERVICE_NAME='My service\n")
    status, said = refused_start(installed, tmp_path, *command)
    assert status == 3
    assert re.fullmatch("Cannot start: .env: line 2 .*\n", said)


@pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)
def test_bad_setting_stops_several_processes(installed: Installed, tmp_path: Path) -> None:
    _, said = refused_start(installed, tmp_path, *SERVER, "--port=0", "--workers=2", OPERATOR_EMAIL="nobody")

    assert "Cannot start: OPERATOR_EMAIL: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
def test_unwritable_records_dir_stops_the_start(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    status, said = refused_start(
        installed, tmp_path, *SERVER, "--port=0", RECORDS_DIR=str(tmp_path / "occupied" / "records")
    )

    assert status != 0
    assert said.startswith("Cannot start: Records cannot be written: RECORDS_DIR: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("installed", few_variants_first(), indirect=True)
def test_lines_of_many_processes_neither_tear_nor_merge(installed: Installed, tmp_path: Path) -> None:
    in_process = installed.engine == "background"
    messages = [f"{number}-{'🚀' * 900}" for number in range(800 if in_process else 100)]
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, *["--workers=2", "--no-access-log"] * in_process, workers=2) as service:
        flood(service.port, (f"/log/?message={quote(message)}" for message in messages), statuses, connections=16)

        assert list(statuses.values()) == [200] * len(messages)
        wait_for(lambda: len(service.records("log")) >= len(messages), "every line")
        assert sorted(service.records("log")) == sorted(messages)


@in_process
def test_terminated_server_finishes_what_it_accepted(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        for number in range(50):
            service.post(f"/log/?message={number}")

    assert service.records("log") == [str(number) for number in range(50)]
