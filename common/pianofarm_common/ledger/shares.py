"""Shares: what each owner gets of a class while several wait, by weight, and how much each has waiting. Decides no order itself.

The order is decided in `prelude.lua`, by start-time fair queuing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import redis

from pianofarm_common.errors import BadOption
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings

#: Weights outside this range would starve somebody for as long as the other has work.
MIN_WEIGHT, MAX_WEIGHT = 0.001, 1000.0


@dataclass(frozen=True)
class Share:
    """An owner with a weight of its own, or with renders that wait for its turn."""

    owner: str  #: "" for all who name none
    weight: float
    waiting: dict[PriorityClass, int]  #: renders that are not published yet, by class; classes without any are left out


class Shares:
    """The weights of a farm; thread-safe.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The shares of the farm at `redis_url`; connects at the first call."""
        return cls(settings, connect(settings))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def set_weight(self, owner: str, weight: float) -> None:
        """Give an owner a weight; 1 is that of everybody who has none.

        Raises:
            BadOption: not from 0.001 to 1000.
        """
        if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
            raise BadOption(f"weight {weight!r} of owner {owner!r}: give one from {MIN_WEIGHT} to {MAX_WEIGHT:.0f}")
        with translated(self._where):
            self._redis.hset(f"{PREFIX}weights", owner[:200], repr(float(weight)))

    def remove_weight(self, owner: str) -> bool:
        """Back to a weight of 1; True if the owner had one of its own."""
        with translated(self._where):
            return bool(self._redis.hdel(f"{PREFIX}weights", owner[:200]))

    def all(self) -> list[Share]:
        """Every owner that has a weight or something waiting, by name."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hgetall(f"{PREFIX}weights")
            for name in PriorityClass:
                pipeline.zrange(f"{PREFIX}turns:{name}", 0, -1)
            answers: Any = pipeline.execute()
            weights, turns = answers[0], dict(zip(PriorityClass, answers[1:], strict=True))
            lanes = [(name, owner) for name, owners in turns.items() for owner in owners]
            for name, owner in lanes:
                pipeline.zcard(f"{PREFIX}lane:{name}:{owner}")
            lengths = dict(zip(lanes, pipeline.execute(), strict=True))
        owners = sorted({*weights, *(owner for _, owner in lanes)})
        return [
            Share(
                owner,
                float(weights.get(owner, 1.0)),
                {name: n for name in PriorityClass if (n := lengths.get((name, owner), 0))},
            )
            for owner in owners
        ]
