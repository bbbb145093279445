"""How messages are taken from Redis."""

import json
from typing import Any

import pytest
from kombu.transport.redis import PrefixedStrictRedis
from redis import ResponseError
from redis.exceptions import OutOfMemoryError

from {{ cookiecutter.package_name }} import transport
from {{ cookiecutter.package_name }}.broker import PREFIX, app, redis

TASKS = f"{PREFIX}tasks"


def test_application_uses_this_transport() -> None:
    with app.connection("redis://localhost") as connection:
        assert isinstance(connection.transport, transport.Transport)
        assert connection.as_uri().startswith("redis://")


def test_message_is_in_redis_until_it_is_acknowledged() -> None:
    def waiting_and_unacknowledged() -> tuple[object, ...]:
        unacked = f"{PREFIX}unacked"
        return redis.llen(TASKS), redis.hlen(unacked), redis.zcard(f"{unacked}_index")

    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put("hello")
        assert waiting_and_unacknowledged() == (1, 0, 0)
        message = queue.get(timeout=10)
        assert message.payload == "hello"
        assert waiting_and_unacknowledged() == (0, 1, 1)
        message.ack()
        assert waiting_and_unacknowledged() == (0, 0, 0)


def test_worker_that_dies_before_it_takes_a_message_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "TAKE", "return redis.error_reply('died')")
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put("hello")
        with pytest.raises(ResponseError, match="died"):
            queue.get(timeout=10)

    assert redis.llen(TASKS) == 1


PROPERTIES = {
    "delivery_tag": "1",
    "delivery_info": {"exchange": "", "routing_key": "tasks"},
    "body_encoding": "base64",  # of a body that is missing
}


@pytest.mark.parametrize(
    "text", ["", "no JSON", "{}", json.dumps({"properties": PROPERTIES}), b"\xff"], ids=repr
)
def test_message_that_cannot_be_read_is_put_aside(
    text: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("tasks")
        redis.lpush(TASKS, text)
        queue.put("hello")
        assert queue.get(timeout=10).payload == "hello"

    data = text.encode() if isinstance(text, str) else text
    assert redis.lrange(f"{PREFIX}unreadable", 0, -1) == [data]
    assert "A message that cannot be read" in caplog.text


def test_rejected_message_goes_to_the_queue_failed() -> None:
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put("hello", headers={"retries": 3})
        queue.get(timeout=10).requeue()
        queue.get(timeout=10).reject()

    assert (redis.llen(TASKS), redis.hlen(f"{PREFIX}unacked")) == (0, 0)
    (failed,) = redis.lrange(f"{PREFIX}failed", 0, -1)
    assert json.loads(failed)["headers"]["retries"] == 0


def test_messages_are_taken_from_a_redis_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = PrefixedStrictRedis.parse_response
    refused = 0

    def refuse(client: Any, connection: Any, command: str, **options: Any) -> Any:
        nonlocal refused
        response = parse(client, connection, command, **options)
        if command == "BLMOVE":
            refused += 1
            raise OutOfMemoryError
        return response

    monkeypatch.setattr(PrefixedStrictRedis, "parse_response", refuse)
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put("hello")
        assert queue.get(timeout=10).payload == "hello"
        with pytest.raises(queue.Empty):
            queue.get(timeout=1)

    assert 1 < refused < 20
