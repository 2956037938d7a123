"""Farm: the client. Turns MIDI into jobs and hands out the handles to follow them; synthesizes nothing itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pianofarm.handles import Batch, Job, Result
from pianofarm.models import check_options, publish_model, resolve_model
from pianofarm.services import Services
from pianofarm.submission import (
    MidiSource,
    Options,
    Rejected,
    Submission,
    midi_bytes,
    name_of,
    parse_options,
    parse_priority,
    perform,
    read_source,
)
from pianofarm_common.errors import BadOption, Permanent
from pianofarm_common.ledger import BatchStatus, Event, JobRequest, JobStatus, new_id, new_ids
from pianofarm_common.ledger.callbacks import Callbacks, check_url
from pianofarm_common.ledger.entry import SUBMIT_CHUNK, Chunk
from pianofarm_common.ledger.switches import Kind
from pianofarm_common.midi import MidiLimits, Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.precision import engine_for
from pianofarm_common.queue import publish_tickets
from pianofarm_common.registry import Registry
from pianofarm_common.renders import PriorityClass, RenderOptions, RenderSpec, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import midi_object

#: Threads that upload MIDI: the store's answer time is hidden, a small store is not flooded.
UPLOADS = 16

#: Job ids drawn at a time.
IDS = 64

#: Performances remembered within one call.
MUSIC_KNOWN = 10_000


@dataclass(frozen=True)
class _Prepared:
    """Requests, and the uploads that must have ended before they are sent."""

    requests: Chunk
    uploads: list[Future[None]]


class Farm:
    """A farm of pianos.

    Safe to share between threads. Usable as a context manager; `close` it otherwise, or leave it to the end of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self.services = Services(settings)

    @classmethod
    def from_env(cls, state_dir: Path | None = None) -> Self:
        """The farm that the environment names (`PIANOFARM_REDIS_URL`, ...), else the local one of `pianofarm up`.

        Raises:
            BadSettings: a setting cannot be used.
        """
        return cls(Settings.load(state_dir))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> Settings:
        """The settings this farm was made with."""
        return self.services.settings

    def close(self) -> None:
        """Close the connections."""
        self.services.close()

    def submit(
        self,
        source: MidiSource,
        *,
        model: str | None = None,
        options: Options = None,
        priority: PriorityClass | str = PriorityClass.INTERACTIVE,
        owner: str = "",
        name: str = "",
    ) -> Job:
        """Ask for one render.

        Args:
            source: path of a MIDI file, its bytes, or a PrettyMIDI object.
            model: name, folder or digest; default: the setting `model`.
            options: `RenderOptions` or a mapping of them, e.g. `{"sample_rate_hz": 44100, "piano": 3}`.
            priority: "interactive" (somebody waits), "standard" or "bulk".
            owner: for people and for shares; default: the setting `owner`, beside which there is no other.
            name: what to call the job; default: the file's name.

        Raises:
            BadMidi: the MIDI cannot be read or rendered.
            BadOption, UnknownModel, BadModel: the request cannot be fulfilled.
            ServiceUnavailable: Redis or the store does not answer. What the ledger accepted is not lost.
            BadSettings: Redis or the store refuses our credentials.
        """
        batch = self.submit_many(
            [Submission(source, name=name)], model=model, options=options, priority=priority, owner=owner
        )
        if batch.rejected:
            raise batch.rejected[0].error
        return batch.jobs[0]

    def submit_many(
        self,
        sources: Iterable[MidiSource | Submission],
        *,
        model: str | None = None,
        options: Options = None,
        priority: PriorityClass | str = PriorityClass.BULK,
        owner: str = "",
        batch: str | None = None,
    ) -> Batch:
        """Ask for many renders; reading, uploading and entering them overlap.

        A source that cannot be rendered does not stop the others: it is listed in `Batch.rejected`.

        Args:
            sources: any iterable, read as it goes; a `Submission` sets its own model, options, priority, owner or name.
            model: for those that set none; see `submit`.
            options: likewise.
            priority: likewise.
            owner: likewise.
            batch: id of the batch, from `pianofarm_common.ledger.new_id`; default: a new one.

        Raises:
            BadOption, UnknownModel, BadModel: of the arguments of this call.
            ServiceUnavailable, BadSettings: as `submit`; chunks sent before are not lost.
        """
        batch = batch or new_id(self.settings.owner)
        self.services.ledger.check_own("batch", [batch])
        run = _Run(self, model, parse_options(options), parse_priority(priority), owner, batch)
        uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="pianofarm-upload")
        try:
            run.submit(run.stored(run.prepared(sources, uploads)))
        finally:
            uploads.shutdown(cancel_futures=True)
        return Batch(self.services, run.batch, run.jobs, run.rejected)

    def job(self, job_id: str) -> Job:
        """The handle of a job that was submitted before, here or elsewhere.

        Raises:
            NotFound: no such job.
            ServiceUnavailable: Redis does not answer.
        """
        status = self.services.ledger.job(job_id)
        return Job(self.services, status.job_id, status.batch, status.key, status.name, status.cached)

    def batch(self, batch_id: str) -> Batch:
        """The handle of a batch that was submitted before; nothing is asked yet."""
        return Batch(self.services, batch_id)

    def status(self, what: Job | Batch | str) -> JobStatus | BatchStatus:
        """Where a job or a batch stands; a string is a job's id.

        Raises:
            NotFound: no such job or batch.
            ServiceUnavailable: Redis does not answer.
        """
        return self.job(what).status() if isinstance(what, str) else what.status()

    def watch(self, batch: Batch | Job | str) -> Iterator[Event]:
        """Events of a batch as they happen, until it is finished; see `Batch.watch`. A string is a batch's id."""
        if isinstance(batch, Job):
            batch = batch.batch
        return (self.batch(batch) if isinstance(batch, str) else batch).watch()

    def call_back(self, batch: Batch | str, url: str) -> None:
        """Have `url` told of every end of a batch's jobs, by a signed POST (docs/security.md); sweepers with `webhook_keys` do it.

        Raises:
            BadOption: not an address that webhooks may have.
            NotFound: no such batch.
            ServiceUnavailable: Redis does not answer.
        """
        check_url(url)
        name, ledger = batch if isinstance(batch, str) else batch.id, self.services.ledger
        ledger.batch(name)
        callbacks = Callbacks.from_settings(self.settings)
        try:
            # First the address, then the jobs that ended before anybody could know of it.
            callbacks.ask(name, url, [])
            callbacks.ask(
                name, url, [job.job_id for job in ledger.jobs(list(ledger.batch_jobs(name))) if job.state.final]
            )
        finally:
            callbacks.close()

    def cancel(self, what: Job | Batch | str) -> State | int:
        """Cancel a job (returns its state) or a batch (returns how many were cancelled). A string is a job's id.

        Raises:
            NotFound: no such job or batch.
            ServiceUnavailable: Redis does not answer.
        """
        return self.services.ledger.cancel_job(what) if isinstance(what, str) else what.cancel()

    def cancel_all(self, kind: Literal["owner", "queue"], name: str) -> int:
        """Cancel all that an owner, or everybody in a queue, waits for; returns how many jobs. `drain` first: what is submitted
        meanwhile may stay.

        Raises:
            ServiceUnavailable: Redis does not answer.
        """
        return self.services.ledger.cancel_all(kind, name)

    def pause(self, kind: Kind, name: str) -> None:
        """Start nothing of a queue, an owner or a batch any more until `resume`; what runs goes on.

        Raises:
            BadOption: no such queue.
            ServiceUnavailable: Redis does not answer.
        """
        self.services.switches.turn("pause", kind, name)

    def drain(self, kind: Kind, name: str) -> None:
        """Accept nothing new for a queue, an owner or a batch until `resume`; what was accepted is made. Raises as `pause`."""
        self.services.switches.turn("drain", kind, name)

    def resume(self, kind: Kind, name: str) -> bool:
        """End pause and drain of a queue, an owner or a batch; False where there was none. Raises as `pause`."""
        return self.services.switches.resume(kind, name)

    def fetch(self, job: Job | str, path: str | Path, timeout_s: float | None = None) -> Path:
        """Wait for a job and write its audio to a file; raises as `Job.result` and `Result.download`."""
        result: Result = (self.job(job) if isinstance(job, str) else job).result(timeout_s)
        return result.download(path)

    def read(self, source: MidiSource) -> tuple[bytes, Performance]:
        """The bytes of a source and what they mean.

        Raises:
            BadMidi: it cannot be read or holds nothing to render.
        """
        return read_source(source, MidiLimits.from_settings(self.settings))


class _Run:
    """One call of `submit_many`: what it has found out so far."""

    def __init__(
        self, farm: Farm, model: str | None, options: RenderOptions, priority: PriorityClass, owner: str, batch: str
    ) -> None:
        self._farm = farm
        self._services = farm.services
        self._model = model or farm.settings.model
        self._precision = farm.settings.precision
        self._options, self._priority, self._owner = options, priority, self._owner_of(owner)
        self._models: dict[str, ModelInfo] = {}
        self._limits = MidiLimits.from_settings(farm.settings)
        self._music: dict[bytes, tuple[str, float]] = {}
        self._uploaded: set[str] = set()
        self._ids = chain.from_iterable(map(new_ids, repeat(IDS), repeat(farm.settings.owner)))
        self.batch = batch
        self.jobs: list[Job] = []
        self.rejected: list[Rejected] = []
        check_options(self._find(self._model), options)

    def prepared(self, sources: Iterable[MidiSource | Submission], uploads: ThreadPoolExecutor) -> Iterator[_Prepared]:
        """Read sources, and start their uploads; what cannot be rendered is left out."""
        remaining, is_more = iter(sources), True
        while is_more:
            chunk, is_more = _Prepared(Chunk(), []), False
            # One by one: 500 sources at a time would be 500 more objects to collect as garbage.
            for source in islice(remaining, SUBMIT_CHUNK):
                item = source if isinstance(source, Submission) else Submission(source)
                is_more = True
                try:
                    self._prepare(item, chunk, uploads)
                except Permanent as error:
                    self.rejected.append(Rejected.of(item, error))
            yield chunk

    @staticmethod
    def stored(chunks: Iterable[_Prepared]) -> Iterator[Chunk]:
        """The requests of each chunk when its MIDI is in the store; that of the next is on its way there meanwhile."""
        before: _Prepared | None = None
        for chunk in chain(chunks, [None]):
            if before is not None:
                for upload in before.uploads:
                    upload.result()
                if before.requests:
                    yield before.requests
            before = chunk

    def submit(self, chunks: Iterable[Chunk]) -> None:
        """Enter requests in the ledger, and publish those whose turn it is; the next chunk is made while Redis enters one."""
        for chunk, tickets in self._services.ledger.submit_chunks(chunks):
            self.jobs += [
                Job(self._services, ticket.job_id, ticket.batch, ticket.key, name, ticket.cached)
                for name, ticket in zip(chunk.names, tickets, strict=True)
            ]
            if any(ticket.needs_message for ticket in tickets):
                publish_tickets(self._services.queue, tickets, dict(zip(chunk.keys, chunk.audio_s, strict=True)))

    def _prepare(self, item: Submission, chunk: _Prepared, uploads: ThreadPoolExecutor) -> None:
        name = item.name or name_of(item.source)
        data = midi_bytes(item.source, self._limits.max_bytes)
        digest, duration_s = self._read(item.source, data)
        options = self._options if item.options is None else parse_options(item.options)
        model = self._find(item.model or self._model)
        check_options(model, options)
        priority = self._priority if item.priority is None else parse_priority(item.priority)
        if digest not in self._uploaded:
            self._uploaded.add(digest)
            chunk.uploads.append(uploads.submit(self._services.store.put, midi_object(digest), data, "audio/midi"))
        spec = RenderSpec(
            performance_sha256=digest,
            model_digest=model.digest,
            model_name=model.name,
            options=options,
            engine=engine_for(model.architecture, self._precision),
            audio_s=min(duration_s, options.duration_s or duration_s),
        )
        owner = self._owner if item.owner is None else self._owner_of(item.owner)
        chunk.requests.add(JobRequest(spec, self.batch, owner, priority, name, next(self._ids)))

    def _owner_of(self, asked: str) -> str:
        """Whose a job is: of whom the caller says, or of whom the settings bind this client to."""
        bound = self._farm.settings.owner
        if bound and asked not in ("", bound):
            raise BadOption(f"owner={asked!r}: the setting PIANOFARM_OWNER binds this client to {bound!r}")
        return bound or asked

    def _read(self, source: MidiSource, data: bytes) -> tuple[str, float]:
        """Digest and length of a performance; the same bytes are read once, whatever is asked of them."""
        known = hashlib.sha256(data).digest()
        if known not in self._music:
            performance = perform(source, data, self._limits)
            if len(self._music) >= MUSIC_KNOWN:
                self._music.clear()
            self._music[known] = (performance.sha256, performance.duration_s)
        return self._music[known]

    def _find(self, name: str) -> ModelInfo:
        """The model of this name, in the store if workers would not have it."""
        if name not in self._models:
            model = resolve_model(name, self._farm.settings.state_dir, Registry.from_settings(self._farm.settings))
            publish_model(self._services.store, model)
            self._models[name] = model
        return self._models[name]
