"""kombu's Redis transport, for which a Redis that cannot serve now is away, as one that does not answer. No queue, no message."""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
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
    """kombu's transport with channels of that kind."""

    Channel = Channel


def install() -> None:
    """Have kombu take this transport for redis:// and rediss:// from now on.

    Under its names, not by `broker_transport`: an address then begins with the name of a class, and Flower knows no such broker.
    """
    name = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES.update({"redis": name, "rediss": name})
