"""How messages are taken from Redis."""

import pytest
from redis import ResponseError

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
