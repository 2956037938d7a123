"""A line to Redis: a script is called again before the answer to the call before it has come. Nothing about jobs here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from pianofarm_common.ledger.scripts import Argument, Scripts


@dataclass
class _Asked:
    texts: tuple[Argument, ...]
    arguments: dict[str, object]
    is_sent: bool = False


class Line:
    """Calls of one script; the answers come in the order of the calls. For one thread, which closes it.

    While Redis works on one call its caller prepares the next, each on a processor of its own. Whatever goes wrong, what was not
    answered is asked again by `Scripts.call`, with its retries and its errors: call only what may be repeated without harm.
    """

    def __init__(self, scripts: Scripts, name: str) -> None:
        self._scripts, self._name = scripts, name
        self._pool = scripts.client.connection_pool
        self._connection: Any = None
        self._asked: deque[_Asked] = deque()

    def send(self, *texts: Argument, **arguments: object) -> None:
        """Call the script as `Scripts.call` does, and wait for nothing. Raises nothing: `answer` does."""
        asked = _Asked(texts, arguments)
        if all(before.is_sent for before in self._asked):
            try:
                if self._connection is None:
                    self._connection = self._pool.get_connection()
                # A question after its health would get the answer to another.
                self._connection.send_command(
                    *self._scripts.command(self._name, *texts, **arguments), check_health=not self._asked
                )
                asked.is_sent = True
            except (RedisError, OSError):
                self._hang_up()
        self._asked.append(asked)

    def answer(self) -> Any:
        """What the script returned to the oldest call that was not answered; raises as `Scripts.call`."""
        asked = self._asked[0]
        if asked.is_sent:
            try:
                answer = self._connection.read_response()
            except (RedisError, OSError):
                self._hang_up()
            else:
                self._asked.popleft()
                return answer
        self._asked.popleft()
        return self._scripts.call(self._name, *asked.texts, **asked.arguments)

    def close(self) -> None:
        """Give the connection back; answers that nobody read are lost with it."""
        if self._connection is not None and not self._asked:
            self._pool.release(self._connection)
            self._connection = None
        self._hang_up()

    def _hang_up(self) -> None:
        for asked in self._asked:
            asked.is_sent = False
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None
