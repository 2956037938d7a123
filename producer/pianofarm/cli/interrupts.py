"""Ctrl-C that is never lost: what Python raises for it in a callback of its garbage collector it prints and drops. JAX has one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Raises KeyboardInterrupt at Ctrl-C as usual, and remembers that it did. A context manager.

    Does nothing outside the main thread, or where somebody else has decided what Ctrl-C does (`nohup`).
    """

    def __init__(self) -> None:
        self._noted = self._mine = False

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()
        self._mine = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._mine:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """To be called now and then.

        Raises:
            KeyboardInterrupt: there was a Ctrl-C, and we are still here.
        """
        if self._noted:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._noted = True
        raise KeyboardInterrupt
