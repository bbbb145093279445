"""How messages are taken from Redis. A Redis in this process stands in for a real one."""

from collections.abc import Iterator
from threading import Thread

import pytest
from fakeredis import TcpFakeServer
from kombu import Connection
from redis import Redis, ResponseError

from {{ cookiecutter.package_name }} import broker, transport


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a Redis that is empty."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()
    thread.join()


def test_application_uses_this_transport() -> None:
    with broker.app.connection("redis://localhost") as connection:
        assert isinstance(connection.transport, transport.Transport)
        assert connection.as_uri().startswith("redis://")


def test_message_is_in_redis_until_it_is_acknowledged(url: str) -> None:
    redis = Redis.from_url(url)

    def waiting_and_unacknowledged() -> tuple[object, object]:
        return redis.llen("tasks"), redis.hlen("unacked")

    with Connection(url, transport=transport.Transport) as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put("hello")
        assert waiting_and_unacknowledged() == (1, 0)
        message = queue.get(timeout=10)
        assert message.payload == "hello"
        assert waiting_and_unacknowledged() == (0, 1)
        message.ack()
        assert waiting_and_unacknowledged() == (0, 0)


def test_worker_that_dies_before_it_takes_a_message_leaves_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TAKE", "return redis.error_reply('died')")
    with Connection(url, transport=transport.Transport) as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put("hello")
        with pytest.raises(ResponseError, match="died"):
            queue.get(timeout=10)

    assert Redis.from_url(url).llen("tasks") == 1
