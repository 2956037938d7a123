"""Ahead: a thread that fetches what the next renders need while this one is under way. Knows no render and claims nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress


class Ahead:
    """Fetches one thing after the other; make it after the fork, and call it from one thread.

    What it cannot fetch it does not have: whoever needs it fetches it again, under a claim, and answers for the failure.
    """

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        """Args: fetch: gives the bytes of an object key; called in the thread."""
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._fetched: dict[str, Future[bytes]] = {}

    def expect(self, soon: Mapping[str, str], keep: Collection[str] = ()) -> None:
        """Fetch these from now on, and forget what is neither among them nor to be kept.

        Args:
            soon: object keys, each by the name under which it will be taken.
            keep: names of what may be fetched already, and is yet to be taken.
        """
        for name in self._fetched.keys() - soon.keys() - set(keep):
            self._fetched.pop(name).cancel()
        for name, key in soon.items():
            if name not in self._fetched:
                self._fetched[name] = self._pool.submit(self._fetch, key)

    def take(self, name: str) -> bytes | None:
        """What was fetched under this name, once; waits while it is under way. None: nothing was, or it could not be fetched."""
        fetched = self._fetched.pop(name, None)
        if fetched is not None:
            with suppress(Exception):
                return fetched.result()
        return None
