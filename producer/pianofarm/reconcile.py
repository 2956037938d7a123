"""Reconciling the ledger with the bucket: what Redis forgot comes back, what the bucket lost is made again.

The bucket is the truth about audio: the sidecar of a render is stored after its audio and holds all that the ledger must know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Protocol

from celery import Celery
from pydantic import ValidationError

from pianofarm_common.errors import NotFound
from pianofarm_common.ledger import JobRequest, JobTicket, Ledger, new_id
from pianofarm_common.queue import publish_tickets
from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, RenderSpec
from pianofarm_common.storage import BlobStore, midi_object, sidecar_object

#: Sidecars read at the same time; S3BlobStore keeps as many connections.
READERS = 16

#: Renders entered in the ledger in one step.
CHUNK = 500

#: Why a render is damaged, or is being stored right now.
NO_SIDECAR = "its sidecar is gone"

#: The owner of jobs that only make lost audio again.
OWNER = "reconcile"


@dataclass(frozen=True)
class Damage:
    """A finished render that cannot be delivered."""

    key: RenderKey
    reason: str
    spec: (
        RenderSpec | None
    )  #: None where nobody remembers what it was: the sidecar cannot be read and the ledger is empty


@dataclass
class Findings:
    """What a reconciliation found."""

    n_whole: int = 0  #: renders in the bucket with everything that belongs to them
    n_adopted: int = 0  #: of these, entered in the ledger now
    damaged: list[Damage] = field(default_factory=list)


@dataclass(frozen=True)
class Repair:
    """What was done about the damaged renders."""

    tickets: list[JobTicket]  #: jobs that make them again
    lost: list[Damage]  #: their MIDI is gone as well, or nobody knows what they were: somebody must submit them again


class Services(Protocol):
    """What reconciliation talks to."""

    @property
    def ledger(self) -> Ledger:
        """Status of jobs and renders."""

    @property
    def store(self) -> BlobStore:
        """MIDI and audio."""

    @property
    def queue(self) -> Celery:
        """The broker."""


def reconcile(ledger: Ledger, store: BlobStore, *, read_audio: bool = False) -> Findings:
    """Compare bucket and ledger, and enter in the ledger what is whole. Safe at any time, while the farm works too.

    Args:
        ledger: may be empty.
        store: is only read.
        read_audio: read all wet audio and compare its digest with the sidecar's, which costs the transfer of all of it. The
            dry signal has no digest: of it only the existence is looked at.

    Raises:
        ServiceUnavailable: Redis or the store does not answer; what was entered stays, run it again.
    """
    findings, seen = Findings(), set[bytes]()

    def examine(found: tuple[RenderKey, set[str]]) -> RenderResult | Damage:
        return _examine(store, *found, read_audio=read_audio)

    with ThreadPoolExecutor(READERS, thread_name_prefix="reconcile") as readers:
        for chunk in _chunked(_renders_of(store)):
            seen.update(bytes.fromhex(key) for key, _ in chunk)
            verdicts = list(readers.map(examine, chunk))
            whole = [verdict for verdict in verdicts if isinstance(verdict, RenderResult)]
            findings.n_whole += len(whole)
            findings.n_adopted += ledger.adopt(whole)
            findings.damaged += [verdict for verdict in verdicts if isinstance(verdict, Damage)]
    # A render that is being stored has objects and no sidecar yet: only what the ledger calls done can be damaged for that.
    unfinished = {damage.key: damage for damage in findings.damaged if damage.spec is None}
    findings.damaged = [damage for damage in findings.damaged if damage.spec is not None]
    for render in ledger.done_renders():
        if render.key in unfinished:
            findings.damaged.append(Damage(render.key, unfinished.pop(render.key).reason, render.spec))
        elif bytes.fromhex(render.key) not in seen and not store.exists(sidecar_object(render.key)):
            seen.add(bytes.fromhex(render.key))
            findings.damaged.append(Damage(render.key, "all of its objects are gone", render.spec))
    findings.damaged += [damage for damage in unfinished.values() if damage.reason != NO_SIDECAR]
    return findings


def render_again(services: Services, damaged: Iterable[Damage]) -> Repair:
    """Forget damaged renders and submit them anew, in the bulk class; same key, same bytes.

    Raises:
        ServiceUnavailable: Redis or the store does not answer; run it again.
    """
    ledger, store = services.ledger, services.store
    requests, lost, batch = [], [], new_id()
    for damage in damaged:
        # Without its sidecar a second attempt cannot take what is there for finished work.
        store.delete(sidecar_object(damage.key))
        ledger.forget(damage.key)
        if damage.spec is None or not store.exists(midi_object(damage.spec.performance_sha256)):
            lost.append(damage)
            continue
        name = f"again: {damage.spec.model_name}, {damage.spec.audio_s:.1f} s"
        requests.append(JobRequest(damage.spec, batch, OWNER, PriorityClass.BULK, name))
    tickets = ledger.submit_many(requests)
    lengths_s = {ticket.key: request.spec.audio_s for request, ticket in zip(requests, tickets, strict=True)}
    publish_tickets(services.queue, tickets, lengths_s)
    return Repair(tickets, lost)


def _renders_of(store: BlobStore) -> Iterator[tuple[RenderKey, set[str]]]:
    """The renders of the bucket with their objects: a listing is in order, so those of one render are neighbours."""
    for key, objects in groupby(store.list("renders/"), key=_render_key):
        if key is not None:
            yield key, set(objects)


def _render_key(object_key: str) -> RenderKey | None:
    """The render that an object belongs to; None for what others put there."""
    parts = object_key.split("/")
    if len(parts) != 4 or len(parts[2]) != 64 or set(parts[2]) - set("0123456789abcdef"):
        return None
    return RenderKey(parts[2])


def _examine(store: BlobStore, key: RenderKey, objects: set[str], *, read_audio: bool) -> RenderResult | Damage:
    sidecar = sidecar_object(key)
    if sidecar not in objects:
        return Damage(key, NO_SIDECAR, None)
    try:
        result = RenderResult.model_validate_json(store.get(sidecar))
    except NotFound:
        return Damage(key, NO_SIDECAR, None)
    except ValidationError as error:
        return Damage(key, f"its sidecar cannot be read: {error.error_count()} fields are wrong", None)
    if result.key != key or result.spec.key != key:
        return Damage(key, f"its sidecar is that of another render ({result.spec.key[:12]})", None)
    wanted = [name for name in (result.audio_key, result.dry_key) if name is not None]
    # One that is made again at this moment may have come after the listing.
    gone = [name for name in wanted if name not in objects and not store.exists(name)]
    if gone:
        return Damage(key, f"gone from the store: {', '.join(name.rpartition('/')[2] for name in gone)}", result.spec)
    if read_audio and hashlib.sha256(store.get(result.audio_key)).hexdigest() != result.audio_sha256:
        return Damage(key, "its audio has other bytes than its sidecar says", result.spec)
    return result


def _chunked(items: Iterator[tuple[RenderKey, set[str]]]) -> Iterator[list[tuple[RenderKey, set[str]]]]:
    while chunk := list(islice(items, CHUNK)):
        yield chunk
