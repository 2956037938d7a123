"""Signatures of queue messages: HMAC-SHA256 (RFC 2104) under keys that the whole farm shares. No queue and no webhooks here.

Optional, and no second line of claims: a message only wakes a worker, and what it names must be in the ledger. A signature keeps
whoever can write to the broker, and to nothing else, from making workers look for work that nobody published.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Self

from pianofarm_common.errors import Permanent
from pianofarm_common.settings import Settings

#: Where the signature is in a message; it covers all other fields.
FIELD = "sig"

#: Begins what is signed, so that a signature of something else is never one of a message.
PURPOSE = b"pianofarm message 1\n"


class Seal:
    """Signs with the first key and accepts every key: that is how keys are changed while a farm runs.

    Without keys nothing is signed and nothing is checked.
    """

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The keys of `message_keys`, in their order."""
        keys = settings.message_keys.get_secret_value()
        return cls(tuple(key.strip().encode() for key in keys.split(",") if key.strip()))

    def __repr__(self) -> str:
        return f"Seal({len(self._keys)} keys)"

    def sealed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The message with its signature, where there is a key."""
        if not self._keys:
            return dict(body)
        return {**body, FIELD: _signature(self._keys[0], body)}

    def check(self, body: Mapping[str, Any]) -> None:
        """Check the signature of a message.

        Raises:
            Permanent: it has none, or none of a key that we know: park it.
        """
        if not self._keys:
            return
        given = body.get(FIELD)
        if not isinstance(given, str) or not given.isascii():
            raise Permanent(
                "a message without a signature, and this worker takes signed ones only: give its sender PIANOFARM_MESSAGE_KEYS"
            )
        content = {name: value for name, value in body.items() if name != FIELD}
        if not any(hmac.compare_digest(given, _signature(key, content)) for key in self._keys):
            raise Permanent(
                f"a message signed by none of the {len(self._keys)} keys in this worker's PIANOFARM_MESSAGE_KEYS: "
                "a new key goes to every worker before anybody signs with it"
            )


def _signature(key: bytes, body: Mapping[str, Any]) -> str:
    """64 hex digits over the canonical form: sorted names, no spaces, ASCII."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, PURPOSE + text, hashlib.sha256).hexdigest()
