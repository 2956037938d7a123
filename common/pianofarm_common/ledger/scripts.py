"""Loading and calling the Lua scripts: each is `prelude.lua` and its own file, takes one JSON argument, and runs as one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import redis

from pianofarm_common.ledger.connection import translated
from pianofarm_common.settings import Settings

#: Begins every key. The hash tag keeps all of them in one slot of a Redis Cluster, so that a script may touch any of them.
PREFIX = "{pianofarm}:"

#: What a script is given beside its JSON.
Argument: TypeAlias = str | bytes | int

#: The scripts, and the files of which each is made after the prelude.
FILES = {
    "submit": ("submit",),
    "claim": ("claim",),
    "heartbeat": ("heartbeat",),
    "commit": ("commit",),
    "fail": ("fail",),
    "defer": ("defer",),
    "release": ("release",),
    "cancel": ("cancel",),
    "sweep": ("sweep",),
    "retry": ("retry",),
    "adopt": ("adopt",),
    "forget": ("forget",),
    "drop": ("drop",),
    "retire": ("retire",),
    "worker": ("worker",),
    "spent": ("spent", "cancel"),
    "ask": ("ask",),
    "calls": ("calls",),
}


def sources(folder: Path | None = None) -> dict[str, str]:
    """The text of every script by its name; Redis knows it by the SHA-1 of just this text, and users' rights name that.

    Args:
        folder: of another version's scripts; None: ours. What that version does not have is left out.
    """
    lua = folder or files("pianofarm_common.ledger") / "lua"
    return {
        name: "\n".join((lua / f"{part}.lua").read_text() for part in ("prelude", *parts))
        for name, parts in FILES.items()
        if all((lua / f"{part}.lua").is_file() for part in parts)
    }


class Scripts:
    """The scripts on one connection, with the settings that all of them get."""

    def __init__(self, client: redis.Redis, settings: Settings, where: str) -> None:
        self._where = where
        self.client = client
        self._scripts = {name: client.register_script(source) for name, source in sources().items()}
        common = {
            "ttl_s": settings.ledger_ttl_s,
            "events_max": settings.events_max_length,
            "max_attempts": settings.max_attempts,
            "lease_ms": round(settings.lease_s * 1000),
            "sweep_ms": round(settings.sweep_interval_s * 1000),
            "host_deaths": settings.host_deaths,
            "host_window_ms": round(settings.host_window_s * 1000),
            "window_ms": round(settings.window_audio_s * 1000),
        }
        self._common = json.dumps(common)[:-1]

    def call(self, name: str, /, *texts: Argument, **arguments: object) -> Any:
        """Run a script; returns what it returns. Raises what `translated` raises.

        Args:
            name: which.
            texts: given as they are: Redis and we are both spared their way through JSON.
            arguments: given as one JSON object.
        """
        with translated(self._where):
            return self._scripts[name](keys=[PREFIX], args=[self._json(arguments), *texts])

    def command(self, name: str, /, *texts: Argument, **arguments: object) -> tuple[Argument, ...]:
        """The command that runs a script which Redis knows already."""
        return ("EVALSHA", self._scripts[name].sha, 1, PREFIX, self._json(arguments), *texts)

    def _json(self, arguments: Mapping[str, object]) -> str:
        return f"{self._common}, {json.dumps(arguments)[1:]}" if arguments else f"{self._common}}}"
