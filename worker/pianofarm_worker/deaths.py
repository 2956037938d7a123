"""Deaths of a pool's child processes as their parent sees them: said in the log, noted as evidence. Starts nobody again."""

from __future__ import annotations

import contextlib
import logging

from billiard.util import get_logger as pool_logger

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger.evidence import Evidence
from pianofarm_common.logs import get_logger
from pianofarm_common.settings import Settings

#: The parent waits no longer for a Redis that does not answer; without the note the evidence says less.
PATIENCE_S = 1.0

#: What the pool says of a child that ended as it should not: its name, its process, "signal 9 (SIGKILL)" or "exitcode 3". It has no
#: other way to say it: `WorkerLostError` comes ten seconds later and names no process.
_DIED = "Process %r pid:%r exited with %r"

log = get_logger(__name__)


class _Listener(logging.Handler):
    def __init__(self, settings: Settings, node: str) -> None:
        super().__init__(logging.ERROR)
        self._settings = settings.model_copy(update={"redis_timeout_s": PATIENCE_S})
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg != _DIED or not isinstance(record.args, tuple):
            log.error("pool", said=record.getMessage())
            return
        _, pid, how = record.args
        log.error("process died", pid=pid, how=how)
        # Connected for this once: what is open here, every child inherits.
        with (
            contextlib.suppress(PianofarmError),
            contextlib.closing(Evidence.from_settings(self._settings)) as evidence,
        ):
            evidence.note_death(f"{self._node}:{pid}", str(how))


def listen(settings: Settings, node: str) -> None:
    """Note every death from now on; `node` is the name of this parent, with which its children's names begin."""
    logger = pool_logger()
    for handler in logger.handlers[:]:
        if isinstance(handler, _Listener):
            logger.removeHandler(handler)
    logger.addHandler(_Listener(settings, node))
