"""What Celery takes tasks from Redis by: a task is in Redis, waiting or taken, at every moment.

Celery's own transport takes a task with one command (BRPOP) and notes with another that it is taken,
so that a worker that is killed in between loses it. Here, one command waits for a task and leaves it
in the queue, and a script takes it and notes that at once. Priorities count for nothing here, and a
worker should look after one queue: it waits a second at each that is empty.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Any

from kombu.transport import redis, virtual
from kombu.transport.virtual import Empty
from kombu.utils.json import loads

# What is noted of a task is what `kombu.transport.redis.QoS.append` notes.
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
    """What is taken and not yet done."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message; in Redis, it is noted already."""
        virtual.QoS.append(self, message, delivery_tag)


class Channel(redis.Channel):
    """Takes messages from one queue after the other, without losing hold of any."""

    QoS = QoS
    _shared_client: Any = None
    # Not in the types of kombu.
    _create_client: Any
    _flush_brpop_reauth: Any
    _queue_cycle: Any
    connection_errors: Any
    pool: Any
    qos: Any

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Keep the client for commands; Celery makes one for each, a tenth of what a message costs."""
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
            # From the right end to the right end: this waits for a message, and leaves it there.
            command = ("BLMOVE", queue, queue, "RIGHT", "RIGHT", timeout or self.brpop_timeout)
            self._in_poll.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        queue = self._watched
        try:
            waits = self.client.parse_response(self.client.connection, "BLMOVE", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        # It may have been told to stop looking after this queue.
        if not waits or queue not in self.active_queues:
            raise Empty
        with self.conn_or_acquire() as client:
            keys = (queue, self.unacked_key, self.unacked_index_key)
            text = client.eval(TAKE, len(keys), *keys, time())
        # Another worker may have been quicker.
        if not text:
            raise Empty
        message = loads(text)
        self.connection._deliver(message, queue)
        tag = message["properties"]["delivery_tag"]
        # Nobody acknowledges answers to `celery inspect`, for instance.
        if tag not in self.qos._delivered:
            self.qos.ack(tag)
        return True


class Transport(redis.Transport):
    """Celery's own, with another channel."""

    Channel = Channel
