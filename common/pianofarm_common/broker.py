"""kombu's Redis transport, for which a Redis that cannot serve now is away, as one that does not answer. No queue, no message."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ClusterDownError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel whose consumer connects again where kombu's would end the worker: a full disk of Redis ended all of them."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ResponseError as error:
            # A file that cannot be written, a script that takes too long; a replica, or one whose cluster or primary is away.
            if not isinstance(error, ReadOnlyError | ClusterDownError) and not str(error).startswith(
                ("MISCONF", "BUSY")
            ):
                raise
            self.client.connection.disconnect()
            raise RedisConnectionError(str(error)) from error


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Name it in `broker_transport`."""

    Channel = Channel


#: Its name for Celery's settings.
TRANSPORT = f"{__name__}:{Transport.__name__}"
