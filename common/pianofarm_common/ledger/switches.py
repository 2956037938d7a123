"""Switches: what of a farm is paused or drained, as operators say it. Moves no render: the Lua scripts look at the switches."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal, Self

import redis

from pianofarm_common.errors import BadOption
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.ledger.values import own_prefix
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings

Action = Literal["pause", "drain"]
Kind = Literal["queue", "owner", "batch"]


@dataclass(frozen=True)
class Switch:
    """Pause: nothing of it is started. Drain: nothing new is accepted, what was accepted is made. What runs goes on in both."""

    action: Action
    kind: Kind
    name: str  #: a class, an owner, the id of a batch
    since: float = 0.0  #: seconds since the epoch

    def __str__(self) -> str:
        return f"{self.kind} {self.name or '(no owner)'} {'paused' if self.action == 'pause' else 'draining'}"

    @property
    def field(self) -> str:
        """Its name in Redis."""
        return f"{self.action}:{self.kind}:{self.name}"


class Switches:
    """The switches of a farm; thread-safe.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials. A batch's
    switches vanish when all of it is finished.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())
        self._owner = settings.owner

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The switches of the farm at `redis_url`; connects at the first call."""
        return cls(settings, connect(settings))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def turn(self, action: Action, kind: Kind, name: str) -> None:
        """Pause or drain; it holds from the next claim or submission on.

        Raises:
            BadOption: no such class, or the settings bind this client to an owner and `name` is not its own.
        """
        self._check_own(kind, name)
        with translated(self._where):
            self._redis.hset(f"{PREFIX}switches", _checked(action, kind, name).field, json.dumps(time.time()))

    def _check_own(self, kind: Kind, name: str) -> None:
        own = {"queue": False, "owner": name == self._owner, "batch": name.startswith(own_prefix(self._owner))}
        if self._owner and not own[kind]:
            raise BadOption(f"{kind} {name}: the setting PIANOFARM_OWNER binds this client to owner {self._owner}")

    def resume(self, kind: Kind, name: str) -> bool:
        """End pause and drain; the sweeper publishes what met the pause when its turn comes. True if there was anything to end.

        Raises:
            BadOption: as `turn`.
        """
        self._check_own(kind, name)
        fields = [_checked(action, kind, name).field for action in ("pause", "drain")]
        with translated(self._where):
            return bool(self._redis.hdel(f"{PREFIX}switches", *fields))

    def all(self) -> list[Switch]:
        """All that is paused or draining, the longest first."""
        with translated(self._where):
            found: Any = self._redis.hgetall(f"{PREFIX}switches")
        switches = [_read(field, since) for field, since in found.items()]
        return sorted(switches, key=lambda switch: switch.since)


def _checked(action: str, kind: Kind, name: str) -> Switch:
    if kind == "queue" and name not in list(PriorityClass):
        raise BadOption(f"no queue {name!r}: name one of {', '.join(PriorityClass)}")
    return Switch("pause" if action == "pause" else "drain", kind, name[:200])


def _read(field: str, since: str) -> Switch:
    action, kind, name = field.split(":", 2)
    return Switch("pause" if action == "pause" else "drain", kind, name, float(json.loads(since)))  # type: ignore[arg-type]
