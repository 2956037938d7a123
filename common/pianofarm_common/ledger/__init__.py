"""Status and leases in Redis: the one typed door to them. No other code touches these keys; no audio and no MIDI passes here."""

from pianofarm_common.ledger.door import Ledger
from pianofarm_common.ledger.values import (
    BatchStatus,
    Claim,
    Depth,
    Event,
    JobRequest,
    JobStatus,
    JobTicket,
    Publication,
    Refusal,
    RenderStatus,
    WorkerInfo,
    new_id,
    new_ids,
)

__all__ = [
    "BatchStatus",
    "Claim",
    "Depth",
    "Event",
    "JobRequest",
    "JobStatus",
    "JobTicket",
    "Ledger",
    "Publication",
    "Refusal",
    "RenderStatus",
    "WorkerInfo",
    "new_id",
    "new_ids",
]
