"""Evidence about worker processes that died: noted by whoever saw the end, read by the script that finds the lease lapsed."""

from __future__ import annotations

from typing import Self

import redis

from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.settings import Settings

#: Far longer than a lease; a name is not used again, because it ends in the number of a process.
KEPT_S = 3600


class Evidence:
    """Notes about dead workers.

    Raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials.
    """

    def __init__(self, client: redis.Redis, where: str) -> None:
        self._redis, self._where = client, where

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Connects at the first call."""
        return cls(connect(settings), address(settings.redis_url.get_secret_value()))

    def note_death(self, worker: str, how: str) -> None:
        """Note what ended a worker, such as "signal 9 (SIGKILL)"; of long texts the beginning."""
        with translated(self._where):
            self._redis.set(f"{PREFIX}fate:{worker}", how[:100], ex=KEPT_S)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
