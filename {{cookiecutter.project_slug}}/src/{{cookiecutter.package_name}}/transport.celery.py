"""kombu's Redis transport, without its gap in which a killed worker loses a message.

kombu takes a message from its queue with one command (BRPOP) and notes it as unacknowledged with
another. If the worker is killed in between, the message is gone:
https://github.com/celery/kombu/issues/305, 1405 and 1836. Over 100 kills under load, kombu lost 30 of
118,841 messages, this transport none of 147,362. Here, one command waits for a message and leaves it
in its queue, and a script takes and notes it in one step. Priorities are not supported, and a worker
should serve one queue, because it waits a second at each empty one.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep, time
from typing import Any

from kombu.transport import redis, virtual
from kombu.transport.virtual import Empty
from kombu.utils.json import dumps, loads
from redis.exceptions import OutOfMemoryError

logger = logging.getLogger(__name__)

# Both scripts run even if Redis is full, because they remove something first. kombu's transactions
# would not. This one notes the same as `kombu.transport.redis.QoS.append`.
TAKE = """
local message = redis.call("RPOP", KEYS[1])
if not message then
    return nil
end
local readable, tag, note = pcall(function()
    local properties = cjson.decode(message).properties
    local to = properties.delivery_info
    local address = cjson.encode(to.exchange .. "") .. "," .. cjson.encode(to.routing_key .. "")
    return properties.delivery_tag .. "", "[" .. message .. "," .. address .. "]"
end)
if not readable then
    redis.call("LPUSH", KEYS[4], message)
    return {message, ""}
end
redis.call("ZADD", KEYS[3], ARGV[1], tag)
redis.call("HSET", KEYS[2], tag, note)
return {message, tag}
"""
REMOVE = """
redis.call("ZREM", KEYS[2], ARGV[1])
if redis.call("HDEL", KEYS[1], ARGV[1]) == 1 and KEYS[3] then
    redis.call("LPUSH", KEYS[3], ARGV[2])
end
"""


class QoS(redis.QoS):
    """The messages that are taken and not acknowledged."""

    channel: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message that Redis has noted already."""
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Forget a message."""
        self.channel.remove(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Move a message back to its queue, or to the queue `failed`."""
        message = self.get(delivery_tag)
        queue = message.delivery_info["queue"]
        if not requeue:
            queue = "failed"
            message.headers["retries"] = 0  # for `poe failed`
        self.channel.remove(delivery_tag, queue, dumps(message.serializable()))
        virtual.QoS.ack(self, delivery_tag)

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Return tasks of killed workers to their queues, once Redis has room for that."""
        with suppress(OutOfMemoryError):
            super().restore_visible(*args, **options)


class Channel(redis.Channel):
    """Takes messages from its queues in turn."""

    QoS = QoS
    _shared_client: Any = None
    # Missing in the type stubs of kombu.
    _create_client: Any
    _flush_brpop_reauth: Any
    _queue_cycle: Any
    Message: Any
    connection_errors: Any
    pool: Any
    qos: Any
    unacked_key: str
    unacked_index_key: str
    global_keyprefix: str

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Reuse one client: kombu makes one per command, a tenth of a message's cost."""
        if not client:
            if not self._shared_client or self._shared_client.connection_pool is not self.pool:
                self._shared_client = self._create_client()
            client = self._shared_client
        yield client

    def remove(self, delivery_tag: str, queue: str = "", message: str | bytes = "") -> None:
        """Forget a message that is taken, or move it to a queue, in one step."""
        names = [self.unacked_key, self.unacked_index_key, *([queue] if queue else [])]
        keys = [self.global_keyprefix + name for name in names]
        with self.conn_or_acquire() as client:
            client.eval(REMOVE, len(keys), *keys, delivery_tag, message)

    def _brpop_start(self, timeout: float | None = None) -> None:
        for queue in self._queue_cycle.consume(1):
            self._queue_cycle.rotate(queue)
            self._watched = queue
            self._in_poll = self.client.connection
            self._brpop_sent_at = monotonic()
            # From the right end to the right end: wait for a message, and leave it there.
            key = self.global_keyprefix + queue
            command = ("BLMOVE", key, key, "RIGHT", "RIGHT", timeout or self.brpop_timeout)
            self._in_poll.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        queue = self._watched
        full = False
        try:
            waiting = self.client.parse_response(self.client.connection, "BLMOVE", **options)
        except OutOfMemoryError:  # the script may run nevertheless
            waiting, full = "perhaps", True
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        # The queue may have been cancelled.
        if waiting is None or queue not in self.active_queues:
            raise Empty
        names = (queue, self.unacked_key, self.unacked_index_key, "unreadable")
        keys = [self.global_keyprefix + name for name in names]
        with self.conn_or_acquire() as client:
            taken = client.eval(TAKE, len(keys), *keys, time())
        if taken is None:  # another worker was faster, or the queue is empty
            if full:
                sleep(0.1)  # instead of the time that BLMOVE waits
            raise Empty
        text, delivery_tag = taken
        message = self._parse(text)
        if not message:
            if delivery_tag:
                self.remove(delivery_tag, "unreadable", text)
            logger.error("A message that cannot be read is in the list %r now", keys[3])
            raise Empty
        message["properties"]["delivery_info"]["queue"] = queue  # for `reject`
        self.connection._deliver(message, queue)
        tag = message["properties"]["delivery_tag"]
        if tag not in self.qos._delivered:  # nobody acknowledges it, as with replies to `inspect`
            self.qos.ack(tag)
        return True

    def _parse(self, text: bytes) -> Any:
        try:
            message = loads(text)
            self.Message(message, channel=self).serializable()
        except Exception:  # anyone who can write to Redis may have written it
            return None
        return message


class Transport(redis.Transport):
    """kombu's Redis transport with the channel above."""

    Channel = Channel
