"""The connection to Redis: its timeouts and retries, and the translation of its errors into ours. Nothing about jobs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from pianofarm_common.errors import BadSettings, ServiceUnavailable
from pianofarm_common.settings import Settings

CURE = "start it ('pianofarm up') or set PIANOFARM_REDIS_URL"


def address(redis_url: str) -> str:
    """`HOST:PORT` of a Redis URL, without user, password or database; `?` where it is no such URL, for anything may be in it."""
    try:
        parts = urlsplit(redis_url)
        port = parts.port or 6379
    except ValueError:
        return "?"
    if parts.scheme not in ("redis", "rediss", "unix"):
        return "?"
    return f"{parts.hostname or parts.path or '?'}:{port}"


def connect(settings: Settings, *, extra_wait_s: float = 0.0) -> redis.Redis:
    """A client; it connects at its first command.

    redis-py's own defaults turn a timeout of 2 s into 20-26 s against a host that swallows packets, so the retries are said here:
    two, and short. Every command that we retry may be repeated without harm.

    Args:
        settings: `redis_url` and `redis_timeout_s`.
        extra_wait_s: added to the timeout, for commands that block on purpose.

    Raises:
        BadSettings: the URL cannot be used.
    """
    url = settings.redis_url.get_secret_value()
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=settings.redis_timeout_s + extra_wait_s,
            socket_connect_timeout=settings.redis_timeout_s,
            socket_keepalive=True,
            health_check_interval=25,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
            retry_on_error=[BusyLoadingError],
            client_name="pianofarm",
        )
    except ValueError:
        raise BadSettings(
            f"PIANOFARM_REDIS_URL cannot be used (host {address(url)}): it must look like redis://HOST:PORT/0 or rediss://..."
        ) from None


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn redis-py's errors into ours; messages name host and port, never the password."""
    try:
        yield
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise BadSettings(
            f"Redis at {where} refuses us ({type(error).__name__}): check user, password and rights in PIANOFARM_REDIS_URL"
        ) from None
    except OutOfMemoryError:
        raise ServiceUnavailable(
            f"Redis at {where} has no memory left: raise its maxmemory (policy noeviction), or wait until work is done"
        ) from None
    except ReadOnlyError:
        raise ServiceUnavailable(f"Redis at {where} is a read-only replica: wait for the failover, or {CURE}") from None
    except ResponseError as error:
        # In a pipeline the command comes before what was said to it.
        said = str(error).rpartition(" caused error: ")[2]
        if isinstance(error, (BusyLoadingError, ClusterDownError)) or said.startswith(
            ("LOADING", "BUSY", "MISCONF", "CLUSTERDOWN")
        ):
            raise ServiceUnavailable(f"Redis at {where} cannot serve now ({said[:80]}): wait, or {CURE}") from None
        if "ACL failure in script" in said:
            raise BadSettings(
                f"Redis at {where} refuses us within a script: have deploy/redis/make_users.py make the users of this version"
            ) from None
        raise
    except (RedisError, OSError) as error:
        raise ServiceUnavailable(f"Redis at {where} does not answer ({type(error).__name__}): {CURE}") from None
